"""What intake decides: whether a message that arrived begins an enquiry or is one it has already.

Pure: no I/O, no clock, no randomness. An enquiry's id follows from its message, so that the same message
twice leads to the same document, whichever way and whichever process it comes in by.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from services.intake.mail import ReadMail
from services.intake.reference import reference_for
from shared.contracts.cloudevents import Person

RAW_IN_STATE = 1024 * 1024
"""Bytes of a raw message kept in its document; a larger one is kept as a file, before the document is."""

Via = Literal["smtp", "lmtp", "http-message", "http-form", "imap", "pipe", "import"]


@dataclass(frozen=True, slots=True)
class ArrivedMail:
    """A message at the door, read but not yet accepted.

    `id` is the enquiry's. `fingerprint` tells whether a repeated id really is the same message: always for
    mail, where the id is made from the content; not for a form, where the client chooses the idempotency key.
    `mail_from` is empty for SMTP's null sender and None where there was no envelope.
    """

    id: str
    fingerprint: str
    raw: bytes
    raw_sha256: str
    via: Via
    read: ReadMail
    peer: str = ""
    mail_from: str | None = None
    rcpt_tos: tuple[str, ...] = ()

    @property
    def raw_is_file(self) -> bool:
        """Whether the raw message must be kept as a file, named by its id, before this is accepted."""
        return len(self.raw) > RAW_IN_STATE


class Message(BaseModel):
    """An accepted message, and the enquiry it began. `raw` is None where it is kept as a file."""

    model_config = ConfigDict(frozen=True)

    id: str
    reference: str
    fingerprint: str
    raw: bytes | None
    raw_sha256: str
    raw_size: int
    mail_from: str | None
    rcpt_tos: tuple[str, ...]
    via: Via
    peer: str
    accepted_at: datetime
    sender: Person
    author: str
    subject: str
    message_id: str
    text: str
    text_cut: bool
    suppress_reply: bool
    suppress_reply_evidence: tuple[str, ...]
    parse_error: str | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The message began an enquiry."""

    state: Message


@dataclass(frozen=True, slots=True)
class Repeated:
    """The message had been accepted before: the sender gets the same answer, and nothing else happens."""

    state: Message


@dataclass(frozen=True, slots=True)
class Contradicted:
    """The idempotency key was used before for something else. Nothing was accepted."""

    state: Message


Outcome = Accepted | Repeated | Contradicted


def accept(message: Message | None, arrived: ArrivedMail, now: datetime, attempt: int = 0) -> Outcome:
    """`attempt` counts the references found taken by other enquiries."""
    if message is not None:
        return Repeated(message) if message.fingerprint == arrived.fingerprint else Contradicted(message)
    read = arrived.read
    return Accepted(
        Message(
            id=arrived.id,
            reference=reference_for(arrived.id, attempt),
            fingerprint=arrived.fingerprint,
            raw=None if arrived.raw_is_file else arrived.raw,
            raw_sha256=arrived.raw_sha256,
            raw_size=len(arrived.raw),
            mail_from=arrived.mail_from,
            rcpt_tos=arrived.rcpt_tos,
            via=arrived.via,
            peer=arrived.peer,
            accepted_at=now,
            sender=read.sender,
            author=read.author,
            subject=read.subject,
            message_id=read.message_id,
            text=read.text,
            text_cut=read.text_cut,
            suppress_reply=bool(read.suppress_reply_evidence),
            suppress_reply_evidence=read.suppress_reply_evidence,
            parse_error=read.parse_error,
        )
    )


def claims(state: Message) -> tuple[str, ...]:
    """What no two enquiries may share."""
    return (state.reference,)
