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
class ReadMail:
    """`sender` is whom to answer, `author` the address in From (or nothing). `parse_error` says what was
    unreadable; the rest was read all the same."""

    sender: Person
    author: str
    subject: str
    message_id: str
    text: str
    text_cut: bool = False
    suppress_reply_evidence: tuple[str, ...] = ()
    parse_error: str | None = None


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
