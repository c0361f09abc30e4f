"""What intake decides about a message: whether it begins an enquiry, goes on with one, tells of a mail that came
back, was sent by a machine in answer to one, or waits for an operator.

Pure: no I/O, no clock, no randomness. A message's id follows from the message, so that the same message twice
leads to the same document, whichever way and whichever process it comes in by.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import Literal

from pydantic import BaseModel, ConfigDict

from services.intake.mail import Attachment, FailedRecipient, ReadMail
from services.intake.reference import reference_for
from services.intake.threads import Candidate, Tie, Trust, may_join
from shared.contracts.cloudevents import Person
from shared.contracts.replies import Party

RAW_IN_STATE = 1024 * 1024
"""Bytes of a raw message kept in its document; a larger one is kept as a file, before the document is."""

Via = Literal["smtp", "lmtp", "http-message", "http-form", "imap", "pipe", "import"]
Kind = Literal["began", "followed-up", "bounced", "auto-replied", "held", "discarded"]


@dataclass(frozen=True, slots=True)
class ArrivedMail:
    """A message at the door, read but not yet accepted.

    `id` is its own, and that of the enquiry it may begin. `fingerprint` tells whether a repeated id really is the
    same message: always for mail, where the id is made from the content; not for a form, where the client chooses
    the idempotency key. `mail_from` is empty for SMTP's null sender and None where there was no envelope.
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


class Proposal(BaseModel):
    """An enquiry a held message may belong to."""

    model_config = ConfigDict(frozen=True)

    enquiry: str
    reference: str


class Message(BaseModel):
    """An accepted message, and what became of it. `raw` is None where it is kept as a file.

    `reference` is that of the enquiry it began or belongs to, or empty; `enquiry` the id of one it was added to or
    answers, empty where it began its own. `party` is who wrote it, `tie` what it was known by; `notification` is
    the mail of ours that came back or was answered. `held` is the reason while it waits for an operator, who may
    choose among `proposals`; `decided_by` and `decided_why` tell who then said what. `known_as` are the
    Message-IDs, hashed, that nobody else's may be: its own, and one it answers that has not come yet.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    outcome: Kind = "began"
    reference: str
    enquiry: str = ""
    party: Party | None = None
    tie: Tie | None = None
    notification: str = ""
    held: str = ""
    proposals: tuple[Proposal, ...] = ()
    decided_by: str = ""
    decided_why: str = ""
    known_as: tuple[str, ...] = ()
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
    new_text: str = ""
    attachments: tuple[Attachment, ...] = ()
    bounce_evidence: tuple[str, ...] = ()
    failed_recipients: tuple[FailedRecipient, ...] = ()
    automated_evidence: tuple[str, ...] = ()
    suppress_reply: bool
    suppress_reply_evidence: tuple[str, ...]
    authenticated_domains: tuple[str, ...] = ()
    parse_error: str | None

    @property
    def belongs_to(self) -> str:
        """The enquiry it is part of; its own id where it began one, or belongs to none."""
        return self.enquiry or self.id


@dataclass(frozen=True, slots=True)
class Began:
    """The message began an enquiry. If a machine sent it, triage sets it aside, where it can be seen."""

    state: Message


@dataclass(frozen=True, slots=True)
class FollowedUp:
    """The message goes on with an enquiry its writer is part of."""

    state: Message


@dataclass(frozen=True, slots=True)
class Bounced:
    """The message reports that a mail of ours was not delivered."""

    state: Message


@dataclass(frozen=True, slots=True)
class AutoReplied:
    """A machine answered a mail of ours."""

    state: Message


@dataclass(frozen=True, slots=True)
class Held:
    """The message waits for an operator."""

    state: Message


@dataclass(frozen=True, slots=True)
class Discarded:
    """An operator gave a held message up; it is kept."""

    state: Message


@dataclass(frozen=True, slots=True)
class Reread:
    """A kept message was read again, and what was read of it is other than before. Nothing follows from it."""

    state: Message


@dataclass(frozen=True, slots=True)
class Repeated:
    """The message had been accepted before: the sender gets the same answer, and nothing else happens."""

    state: Message


@dataclass(frozen=True, slots=True)
class Contradicted:
    """The idempotency key was used before for something else. Nothing was accepted."""

    state: Message


Taken = Began | FollowedUp | Bounced | AutoReplied | Held
Outcome = Taken | Discarded | Repeated | Contradicted
Change = Outcome | Reread
"""All that may happen to a kept message."""


READ = frozenset(ReadMail.__dataclass_fields__) & frozenset(Message.model_fields) | {"suppress_reply"}
"""What of a message is read out of it."""


class NotKept(Exception):
    """No message has this id."""


class NotHeld(Exception):
    """The message is unknown, or an operator has decided about it already."""


def accept(
    message: Message | None,
    arrived: ArrivedMail,
    now: datetime,
    *,
    attempt: int = 0,
    candidates: Sequence[Candidate] = (),
    trust: Trust | None = None,
    not_known_as: frozenset[str] = frozenset(),
) -> Outcome:
    """What becomes of it. `candidates` are the enquiries it may belong to, the best tie first; they are judged by
    `trust`. `attempt` counts the references found taken by other enquiries; `not_known_as` are Message-IDs, hashed,
    found taken by other messages."""
    if message is not None:
        return Repeated(message) if message.fingerprint == arrived.fingerprint else Contradicted(message)
    return _settled(
        _kept(arrived, now),
        arrived.read,
        candidates,
        trust=trust,
        attempt=attempt,
        not_known_as=not_known_as,
    )


def _settled(
    state: Message,
    read: ReadMail,
    candidates: Sequence[Candidate],
    *,
    trust: Trust | None,
    attempt: int,
    not_known_as: frozenset[str],
) -> Taken:
    by_machine = bool(read.bounce_evidence or read.automated_evidence)
    # What a machine answers is a mail of ours. Mail of others it may answer too (lists do), which is no news of ours.
    best = next((each for each in candidates if each.signed or each.tie == "reference"), None)
    if best is not None and by_machine:
        tied = {
            "enquiry": best.enquiry,
            "reference": best.reference,
            "tie": best.tie,
            "party": best.signed.party if best.signed else None,
            # A reply address stands for the enquiry, a Message-ID for the very mail.
            "notification": next(
                (each.signed.notification for each in candidates if each.signed and each.signed.notification),
                "",
            ),
        }
        if read.bounce_evidence:
            return Bounced(state.model_copy(update={"outcome": "bounced", **tied}))
        return AutoReplied(state.model_copy(update={"outcome": "auto-replied", **tied}))
    known_as = tuple(name for name in _names(read) if name not in not_known_as)
    for candidate in () if by_machine else candidates:
        if trust is not None and (party := may_join(read, candidate, trust)):
            joined = {
                "outcome": "followed-up",
                "enquiry": candidate.enquiry,
                "reference": candidate.reference,
                "party": party,
                "tie": candidate.tie,
                "known_as": tuple(name for name in known_as if name == name_of(read.message_id)),
            }
            return FollowedUp(state.model_copy(update=joined))
    proposals = tuple(
        {
            each.enquiry: Proposal(enquiry=each.enquiry, reference=each.reference)
            for each in candidates
            if each.tie != "answered-before"
        }.values()
    )
    if proposals and not by_machine:
        held = {"outcome": "held", "held": "not-a-correspondent", "proposals": proposals}
        return Held(state.model_copy(update=held))
    if read.unreadable and not by_machine:
        return Held(state.model_copy(update={"outcome": "held", "held": "unreadable"}))
    began = {"reference": reference_for(state.id, attempt), "known_as": known_as}
    return Began(state.model_copy(update=began))


def _kept(arrived: ArrivedMail, now: datetime) -> Message:
    read = arrived.read
    return Message(
        id=arrived.id,
        reference="",
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
        new_text="" if read.new_text == read.text else read.new_text,
        attachments=read.attachments,
        bounce_evidence=read.bounce_evidence,
        failed_recipients=read.failed_recipients,
        automated_evidence=read.automated_evidence,
        suppress_reply=bool(read.suppress_reply_evidence),
        suppress_reply_evidence=read.suppress_reply_evidence,
        authenticated_domains=read.authenticated_domains,
        parse_error=read.parse_error,
    )


def reread(
    message: Message | None,
    arrived: ArrivedMail,
    *,
    operator: str,
    attempt: int = 0,
    candidates: Sequence[Candidate] = (),
    trust: Trust | None = None,
    not_known_as: frozenset[str] = frozenset(),
) -> Change:
    """A kept message, read again as `arrived`. One that is held is decided about again, as if it had just come; of
    every other only what was read changes: what has followed from it has followed. Raises `NotKept`."""
    if message is None:
        raise NotKept
    fresh = _kept(arrived, message.accepted_at)
    if not message.held:
        return Reread(message.model_copy(update={name: getattr(fresh, name) for name in READ}))
    taken = _settled(fresh, arrived.read, candidates, trust=trust, attempt=attempt, not_known_as=not_known_as)
    if isinstance(taken, Held):
        return Reread(taken.state)
    decided = {"decided_by": operator, "decided_why": "read again"}
    return replace(taken, state=taken.state.model_copy(update=decided))


def correlation(state: Message) -> str:
    """The enquiry whose story the message is told in. A held one keeps its own: it may yet begin an enquiry."""
    return state.id if state.held else state.belongs_to


# What an operator decides about a held message ----------------------------------------------------------------


def join(message: Message | None, to: Proposal, party: Party, operator: str, why: str) -> FollowedUp:
    """It belongs to this enquiry, and whoever wrote it plays that part. Raises `NotHeld`."""
    joined = {"outcome": "followed-up", "enquiry": to.enquiry, "reference": to.reference, "party": party}
    return FollowedUp(_decided(message, operator, why, joined))


def begin(message: Message | None, operator: str, why: str, attempt: int = 0) -> Began:
    """It is an enquiry of its own. Raises `NotHeld`."""
    state = _decided(message, operator, why, {"outcome": "began"})
    return Began(state.model_copy(update={"reference": reference_for(state.id, attempt)}))


def discard(message: Message | None, operator: str, why: str) -> Discarded:
    """Nothing is to be made of it. Raises `NotHeld`."""
    return Discarded(_decided(message, operator, why, {"outcome": "discarded"}))


def _decided(message: Message | None, operator: str, why: str, update: Mapping[str, object]) -> Message:
    if message is None or not message.held:
        raise NotHeld
    return message.model_copy(update={"held": "", "decided_by": operator, "decided_why": why, **update})


# What no two messages may share -------------------------------------------------------------------------------


def claims(state: Message) -> tuple[str, ...]:
    """A reference is one enquiry's. A Message-ID is one message's, which costs an ordinary mail nothing to find
    out: the write itself tells whether an answer to it has come before."""
    return (state.reference, *state.known_as) if state.outcome == "began" else state.known_as


def name_of(message_id: str) -> str:
    """A Message-ID as it is claimed."""
    return f"m:{sha256(message_id.encode('utf-8', 'replace')).hexdigest()[:24]}"


def _names(read: ReadMail) -> tuple[str, ...]:
    """Its own Message-ID, and the one it answers: were that known here already, it would have been joined."""
    answers = read.in_reply_to[:1] or read.references[-1:]
    return tuple(dict.fromkeys(name_of(each) for each in (read.message_id, *answers) if each))


def tell(message: Message) -> str:
    """One line for a timeline, without an address."""
    size = f"by {message.via}, {message.raw_size} bytes kept"
    match message.outcome:
        case "began":
            line = f"{message.reference} {size}"
        case "followed-up":
            line = f"{message.party} writes again ({message.tie or 'added by an operator'}), {size}"
        case "bounced":
            line = f"a mail to the {message.party or 'enquirer or a partner'} was not delivered, {size}"
        case "auto-replied":
            line = f"a machine answers for the {message.party or 'enquirer or a partner'}, {size}"
        case "held":
            line = f"waits for an operator: {message.held}, {size}"
        case "discarded":
            line = f"discarded, {size}"
    return f"{line} ({message.decided_by}: {message.decided_why})" if message.decided_by else line
