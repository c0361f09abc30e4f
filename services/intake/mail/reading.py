"""One message, read: who wrote, about what, and whether an automatic answer is welcome."""

from dataclasses import dataclass
from itertools import islice

from services.intake.mail.attachments import Attachment
from services.intake.mail.authentication import authenticated_domains
from services.intake.mail.automatic import (
    address_evidence,
    automated_evidence,
    suppress_reply_evidence,
    unanswerable,
)
from services.intake.mail.body import body_of, files_of, whole
from services.intake.mail.bounces import FailedRecipient, bounce_of
from services.intake.mail.folding import new_text, plain
from services.intake.mail.headers import is_address, message_id
from shared.contracts.cloudevents import Person

UNKNOWN_ADDRESS = "unknown@sender.invalid"
"""Stands for a sender who gave no address that can be written to; `.invalid` never resolves (RFC 2606)."""

LARGE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Ours:
    """What is our own, all in lower case: addresses we are written to, domains of our Message-IDs, and the name
    by which our mail server signs what it checked (RFC 8601; none trusts nothing)."""

    addresses: frozenset[str] = frozenset()
    message_id_domains: frozenset[str] = frozenset()
    authserv_id: str = ""


NOTHING = Ours()


@dataclass(frozen=True, slots=True)
class ReadMail:
    """`sender` is whom to answer, `author` the address in From (or nothing). `text` is the whole text,
    `new_text` the same without quoted replies and signature. `parse_error` says what was unreadable; the rest
    was read all the same; `unreadable` that nothing was.

    Bounce, automatic and "asks for no answer" are three separate facts; each holds where it has evidence.
    `bounced_message_ids` are the Message-IDs of what a bounce returned. `authenticated_domains` passed SPF,
    DKIM or DMARC by a server whose word is trusted (RFC 8601).
    """

    sender: Person
    author: str
    subject: str
    message_id: str
    text: str
    text_cut: bool = False
    new_text: str = ""
    in_reply_to: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    bounce_evidence: tuple[str, ...] = ()
    failed_recipients: tuple[FailedRecipient, ...] = ()
    bounced_message_ids: tuple[str, ...] = ()
    automated_evidence: tuple[str, ...] = ()
    suppress_reply_evidence: tuple[str, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    authenticated_domains: tuple[str, ...] = ()
    parse_error: str | None = None
    unreadable: bool = False


def is_large(raw: bytes) -> bool:
    """Whether reading takes long enough (some milliseconds) that other clients should not wait for it."""
    return len(raw) > LARGE


def read(raw: bytes, *, envelope_from: str | None = None, ours: Ours = NOTHING) -> ReadMail:
    """Read any bytes as a message. Pure, bounded in time and size, and never raises.

    `envelope_from` is empty for SMTP's null sender and None where there was no envelope.
    """
    message = whole(raw)
    headers = message.headers
    body = body_of(message)
    id = message_id(headers.first("message-id"))
    from_ = next(headers.people("from"), None)
    # RFC 5322 section 3.6.2: answers go where Reply-To says. Contact forms that send as no-reply@ rely on it.
    reply_to = next(headers.people("reply-to"), None)
    found = reply_to or from_ or next(headers.people("sender"), None)
    if found is None and envelope_from and is_address(envelope_from):
        found = ("", envelope_from)
    subject = headers.first("subject")
    text = plain(body.text)
    bounce = bounce_of(raw, headers, body, envelope_from=envelope_from, own=ours.addresses)
    automated = automated_evidence(
        headers, kinds=body.kinds, text=text, envelope_from=envelope_from, is_bounce=bool(bounce.evidence)
    )
    suppress = suppress_reply_evidence(
        headers, envelope_from=envelope_from, message_id=id, own_domains=ours.message_id_domains
    )
    if found is None:
        suppress.append("the sender gave no usable address")
        found = ("", UNKNOWN_ADDRESS)
    else:
        suppress += address_evidence(found[1], ours.addresses)
    return ReadMail(
        sender=Person(name=found[0] or (from_[0] if from_ else ""), address=found[1]),
        author=from_[1] if from_ else "",
        subject=subject,
        message_id=id,
        text=text,
        text_cut=body.cut,
        new_text=new_text(body.text, subject, from_[0] if from_ else ""),
        in_reply_to=headers.message_ids("in-reply-to"),
        references=headers.message_ids("references"),
        bounce_evidence=bounce.evidence,
        failed_recipients=bounce.recipients,
        bounced_message_ids=bounce.message_ids,
        automated_evidence=tuple(automated),
        suppress_reply_evidence=tuple(dict.fromkeys([*suppress, *unanswerable(automated)])),
        attachments=tuple(body.attachments),
        authenticated_domains=authenticated_domains(headers, ours.authserv_id),
        parse_error="; ".join(body.problems[:10])[:500] or None,
        unreadable=body.unreadable,
    )


def attachment_bytes(raw: bytes, index: int) -> bytes | None:
    """The bytes of the attachment that `read` lists at `index`, or None where there is none such."""
    return next(islice(files_of(whole(raw)), max(index, 0), None), None) if index >= 0 else None
