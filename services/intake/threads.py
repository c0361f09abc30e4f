"""Which enquiry a message belongs to, and whether whoever wrote it may add to it.

What ties a message to an enquiry, and what follows from who it says it is from:

| tie                                        | somebody in it, or    | another in the    | anybody  |
|                                            | whom we wrote to      | same organisation | else     |
|--------------------------------------------|-----------------------|-------------------|----------|
| an address or Message-ID that we signed    | joins                 | joins             | proposed |
| `In-Reply-To`, `References`: mail we took  | joins, authenticated  | proposed          | proposed |
| our reference in the subject               | joins, authenticated  | proposed          | proposed |

Somebody is *in* an enquiry whose mail is in it. What we signed shows that the writer has seen mail of ours, so a
colleague with it (cases go to a partner's shared mailbox) may go on; a stranger with it has been forwarded a mail,
and an operator looks first. "The same organisation" is the same domain, except where anybody can have a mailbox.
"Authenticated" counts where our own server says who wrote (`Authentication-Results`, RFC 8601): From is easily
forged, and a Message-ID or reference is easily known. Nothing proposed is appended before an operator says so.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from services.intake import reference
from services.intake.mail import ReadMail
from services.intake.mail.headers import BLOCK_LIMIT, FIELD, split
from shared.contracts.replies import REPLY_MAILBOX, Party, Replies, Signed

Tie = Literal["reply-address", "our-message-id", "their-message-id", "reference", "answered-before"]
"""`answered-before`: an answer to this message came first, by the same person, and began the enquiry."""

OPEN_DOMAINS = frozenset(
    [
        "aol.com",
        "btinternet.com",
        "gmail.com",
        "gmx.com",
        "gmx.net",
        "googlemail.com",
        "hotmail.co.uk",
        "hotmail.com",
        "icloud.com",
        "live.co.uk",
        "live.com",
        "mac.com",
        "mail.com",
        "me.com",
        "msn.com",
        "ntlworld.com",
        "outlook.com",
        "proton.me",
        "protonmail.com",
        "sky.com",
        "talktalk.net",
        "tiscali.co.uk",
        "virginmedia.com",
        "yahoo.co.uk",
        "yahoo.com",
        "ymail.com",
    ]
)
"""Where anybody can have a mailbox, so that a domain in common says nothing."""

ADDRESS_FIELDS = frozenset({b"to", b"cc", b"delivered-to", b"x-original-to", b"envelope-to"})
REPLY_ADDRESS = re.compile(rf"{REPLY_MAILBOX}\+[a-z0-9.]+@[a-z0-9.-]+")
MESSAGE_IDS_FOLLOWED = 20


@dataclass(frozen=True, slots=True)
class Ties:
    """What a message carries that may tie it to an enquiry. `signed` are what we signed, the best first; `answers`
    the Message-IDs it answers that we did not sign, the nearest first."""

    signed: tuple[tuple[Tie, Signed], ...] = ()
    answers: tuple[str, ...] = ()
    reference: str | None = None

    def __bool__(self) -> bool:
        return bool(self.signed or self.answers or self.reference)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An enquiry that a message may belong to, and the tie that speaks for it.

    `people` are those whose mail is in it, by lower-case address.
    """

    enquiry: str
    reference: str
    tie: Tie
    signed: Signed | None = None
    people: Mapping[str, Party] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trust:
    """How a writer is judged. `authenticates`: our own mail server says who wrote, and must have."""

    replies: Replies
    authenticates: bool = False


def ties_of(read: ReadMail, raw: bytes, rcpt_tos: Sequence[str], replies: Replies) -> Ties:
    """What the message carries. For ordinary first mail, next to nothing is done and nothing found."""
    found: list[tuple[Tie, Signed]] = [
        ("reply-address", signed) for signed in _reply_addresses(raw, rcpt_tos, replies)
    ]
    answers: list[str] = []
    for message_id in dict.fromkeys(
        (*read.bounced_message_ids, *read.in_reply_to, *reversed(read.references))
    ):
        if signed := replies.read_message_id(message_id):
            found.append(("our-message-id", signed))
        else:
            answers.append(message_id)
    return Ties(
        signed=tuple(dict.fromkeys(found)),
        answers=tuple(answers[:MESSAGE_IDS_FOLLOWED]),
        reference=reference.find(read.subject),
    )


def _reply_addresses(raw: bytes, rcpt_tos: Sequence[str], replies: Replies) -> Iterator[Signed]:
    """By the envelope; where that names none (a mailbox that was fetched has no envelope), by the header."""
    named = [address for address in rcpt_tos if address.lower().startswith(f"{REPLY_MAILBOX}+")]
    if not named and REPLY_MAILBOX.encode() + b"+" in raw[:BLOCK_LIMIT].lower():
        head, _ = split(raw[:BLOCK_LIMIT])
        named = [
            address
            for each in FIELD.finditer(head)
            if each[1].lower() in ADDRESS_FIELDS
            for address in REPLY_ADDRESS.findall(each[2].decode("latin-1").lower())
        ]
    for address in dict.fromkeys(named):
        if signed := replies.read_address(address):
            yield signed


def writer_of(read: ReadMail) -> str:
    """Who says they wrote, in lower case: From, never Reply-To, which may name anybody."""
    return (read.author or read.sender.address).lower()


def may_join(read: ReadMail, candidate: Candidate, trust: Trust) -> Party | None:
    """The part the writer plays in the candidate, or None where that is for an operator to say. See the table."""
    writer = writer_of(read)
    known = candidate.people.get(writer)
    signed = candidate.signed
    if signed is None:
        vouched = not trust.authenticates or _authenticated(writer, read.authenticated_domains)
        return known if vouched else None
    if trust.replies.wrote_to(signed, writer):
        return signed.party
    if known or writer.rpartition("@")[2] in OPEN_DOMAINS:
        return known
    organisations = {address.rpartition("@")[2] for address in candidate.people}
    if trust.replies.wrote_to_domain_of(signed, writer) or writer.rpartition("@")[2] in organisations:
        return signed.party
    return None


def _authenticated(writer: str, domains: Sequence[str]) -> bool:
    """Whether one of them vouches for the writer's domain, itself or above or below (RFC 7489, relaxed)."""
    own = f".{writer.rpartition('@')[2]}"
    return any(
        own.endswith(f".{domain}") or f".{domain}".endswith(own)
        for domain in map(str.lower, domains)
        if domain
    )
