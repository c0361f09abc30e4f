"""Whether a message asks that nothing automatic answers it, with the evidence.

This is neither "is a bounce" nor "was sent by a machine": X-Auto-Response-Suppress, for one, is found on
people's mail too. Sources: RFC 3834 sections 2 and 5, RFC 5230 section 4.6, RFC 2919, MS-OXCMAIL 2.2.3.2.14.
"""

import re

from services.intake.mail.headers import Headers, cleaned

NOBODY_READS = re.compile(
    r"(mailer-daemon|postmaster|listserv|majordomo|no[-_.]?reply|do[-_.]?not[-_.]?reply|bounces?)([-+._].*)?"
    r"|owner-.*|.*-(request|bounces|owner|noreply)",
    re.IGNORECASE,
)


def suppress_reply_evidence(
    headers: Headers, *, envelope_from: str | None, message_id: str, own_domains: frozenset[str]
) -> list[str]:
    """One sentence for each reason found. `envelope_from` is empty for a null sender, None where there was no
    envelope."""
    evidence: list[str] = []
    submitted = headers.first("auto-submitted").partition(";")[0].strip().lower()
    if submitted and submitted != "no":
        evidence.append(_quoted("Auto-Submitted", submitted))
    precedence = headers.first("precedence").strip().lower()
    if precedence in ("bulk", "list", "junk", "auto_reply"):
        evidence.append(_quoted("Precedence", precedence))
    if headers.has("list-id"):
        evidence.append("it has a List-Id")
    suppress = headers.first("x-auto-response-suppress").lower()
    if {"all", "autoreply", "oof"} & {word.strip() for word in suppress.split(",")}:
        evidence.append(_quoted("X-Auto-Response-Suppress", suppress))
    if headers.first("content-type").lower().startswith("multipart/report"):
        evidence.append("it is a report (multipart/report)")
    if envelope_from == "":
        evidence.append("the envelope sender is empty")
    if message_id.rstrip(">").rpartition("@")[2].lower() in own_domains:
        evidence.append("its Message-ID is one of ours")
    return evidence


def address_evidence(address: str, own_addresses: frozenset[str]) -> list[str]:
    """Reasons that lie in the address an answer would go to."""
    evidence: list[str] = []
    if NOBODY_READS.fullmatch(address.rpartition("@")[0]):
        evidence.append("nobody reads the sender's address")
    if address.lower() in own_addresses:
        evidence.append("the sender's address is our own")
    return evidence


def _quoted(name: str, value: str) -> str:
    return f"{name}: {cleaned(value)[:100]}"
