"""One message, read: who wrote, about what, and whether an automatic answer is welcome."""

from dataclasses import dataclass

from services.intake.mail.automatic import address_evidence, suppress_reply_evidence
from services.intake.mail.body import body_of
from services.intake.mail.headers import Headers, is_address, message_id
from shared.contracts.cloudevents import Person

UNKNOWN_ADDRESS = "unknown@sender.invalid"
"""Stands for a sender who gave no address that can be written to; `.invalid` never resolves (RFC 2606)."""

LARGE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Ours:
    """What is our own, all in lower case: addresses we are written to, and domains of our Message-IDs."""

    addresses: frozenset[str] = frozenset()
    message_id_domains: frozenset[str] = frozenset()


NOTHING = Ours()


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that came with a message. Its bytes stay in the raw message and are never unpacked.

    `name` is cleaned for showing and saving; `media_type` is what the bytes are, `claimed_type` what the
    sender said; `size` is in bytes, decoded. `danger` says why opening it would be unsafe, or nothing.
    """

    name: str
    media_type: str
    claimed_type: str
    size: int
    sha256: str
    danger: str = ""


@dataclass(frozen=True, slots=True)
class FailedRecipient:
    """One address a delivery failed for (RFC 3464 section 2.3). `permanent` is None where the report does
    not tell; `status` is RFC 3463's (`5.1.1`), or nothing; `diagnostic` is the server's words, cleaned."""

    address: str
    permanent: bool | None = None
    status: str = ""
    diagnostic: str = ""


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
    headers = Headers(raw)
    body = body_of(raw)
    id = message_id(headers.first("message-id"))
    from_ = next(headers.people("from"), None)
    # RFC 5322 section 3.6.2: answers go where Reply-To says. Contact forms that send as no-reply@ rely on it.
    reply_to = next(headers.people("reply-to"), None)
    found = reply_to or from_ or next(headers.people("sender"), None)
    if found is None and envelope_from and is_address(envelope_from):
        found = ("", envelope_from)
    evidence = suppress_reply_evidence(
        headers, envelope_from=envelope_from, message_id=id, own_domains=ours.message_id_domains
    )
    if found is None:
        evidence.append("the sender gave no usable address")
        found = ("", UNKNOWN_ADDRESS)
    else:
        evidence += address_evidence(found[1], ours.addresses)
    return ReadMail(
        sender=Person(name=found[0] or (from_[0] if from_ else ""), address=found[1]),
        author=from_[1] if from_ else "",
        subject=headers.first("subject"),
        message_id=id,
        text=body.text,
        text_cut=body.cut,
        suppress_reply_evidence=tuple(evidence),
        parse_error="; ".join(body.problems[:10])[:500] or None,
    )
