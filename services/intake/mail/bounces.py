"""Whether a message says that another was not delivered, for whom, and which one it was.

RFC 3464 reports tell it in fields. The home-made kinds are known by several signs together: who sends it, its
subject, its words, and the message it returns. flufl.bounce, the public record of home-made formats, names
failed recipients; it is asked only where the signs are there, as it takes ordinary mail for bounces too.
"""

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import compat32
from functools import cached_property
from itertools import islice

from flufl.bounce import all_failures

from services.intake.mail.body import Body
from services.intake.mail.bounce_words import (
    DELAYED,
    FAILED_BODY,
    FAILED_SUBJECT,
    MAIL_SYSTEM,
    NOT_A_BOUNCE,
    RETURNED_BELOW,
    WORD_OF_ADDRESSES,
)
from services.intake.mail.headers import ADDRESS, FIELD, MESSAGE_ID, Headers, cleaned, is_address

RECIPIENTS_LIMIT = 100
IDS_LIMIT = 10
NOTICE = 20_000
"""Characters of a notice that are looked at; what follows is the returned message."""
NOTICE_LINE = 1_000
OWN_WORDS = 4_000
DIAGNOSTIC_LIMIT = 500
ASKED_BYTES = 32 * 1024
"""Bytes of a message that flufl.bounce is given: it searches each line with seventy patterns, some of which
take quadratic time on long lines."""
ASKED_LINE = 200

STATUS_CODE = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?![\d.])")
REPLY_CODE = re.compile(r"(?<![\d.#-])([45])[0-5]\d(?= |-\D|-\d\.)")
PLAIN_FIELDS = re.compile(
    r"^(?:Final-Recipient|Original-Recipient|Action|Status)[ \t]*:", re.MULTILINE | re.IGNORECASE
)
# What may stand before an address in a line that begins with it.
LABEL = re.compile(
    r"\s*(?:(?:failed|final|original|intended|smtp)[ -]?)?(?:recipient|rcpt|address|to|for)(?:[ -]address)?"
    r"\s*[:;]\s*(?:rfc822;|smtp:)?\s*<?",
    re.IGNORECASE,
)
BEFORE = re.compile(
    r"[\s<>\[\]()'\"*=:-]*(?:(?:to|smtp|rfc822|e-?mail|recipient|address)\s*[:;]\s*)?[\s<\['\"]*",
    re.IGNORECASE,
)
BLANK_LINES = re.compile(rb"\n(?:[ \t]*\n){2,}")
LONG_LINE = re.compile(rb"[^\n]{%d}" % ASKED_LINE)
RETURNED_BELOW_ANYWHERE = re.compile(f"^(?:{RETURNED_BELOW.pattern})", re.MULTILINE | re.IGNORECASE)
RETURNED_ID = re.compile(r"^[>\s]{0,10}message-id:\s{0,5}(<[^\n]{3,400})", re.MULTILINE | re.IGNORECASE)
RETURNED_TO = re.compile(r"^[>\s]{0,10}to:([^\n]{3,300})$", re.MULTILINE | re.IGNORECASE)
# It writes a traceback, which may quote the mail, for each message that it cannot read.
logging.getLogger("flufl.bounce").setLevel(logging.CRITICAL)
PARSER = BytesParser(policy=compat32)


@dataclass(frozen=True, slots=True)
class FailedRecipient:
    """One address a delivery failed for (RFC 3464 section 2.3). `permanent` is None where the report does
    not tell; `status` is RFC 3463's (`5.1.1`), or nothing; `diagnostic` is the server's words, cleaned."""

    address: str
    permanent: bool | None = None
    status: str = ""
    diagnostic: str = ""


@dataclass(frozen=True, slots=True)
class Bounce:
    """No bounce where there is no evidence."""

    evidence: tuple[str, ...] = ()
    recipients: tuple[FailedRecipient, ...] = ()
    message_ids: tuple[str, ...] = ()


NONE = Bounce()


def bounce_of(
    raw: bytes, headers: Headers, body: Body, *, envelope_from: str | None, own: frozenset[str]
) -> Bounce:
    """What `raw` says about a failed delivery. Pure and never raises. `own` are addresses that cannot have failed."""
    signs = _Signs(headers, body, envelope_from)
    evidence, certain = signs.evidence()
    if not evidence:
        return NONE
    recipients = _reported(signs.blocks) or _in_header(headers, signs.notice)
    known = bool(recipients)
    if not recipients:
        ours = own | {address.lower() for name in ("from", "to") for _, address in headers.people(name)}
        recipients, known = _home_made(raw, signs.notice, body, ours)
    if not certain and not (recipients and (known or signs.by_system)):
        return NONE
    return Bounce(
        tuple(evidence), tuple(recipients[:RECIPIENTS_LIMIT]), _message_ids(headers, body, signs.blocks)
    )


def _notice(text: str) -> str:
    """The words of the one who reports, without the returned message, for which RETURNED_BELOW is a sign."""
    lines = (line[:NOTICE_LINE] for line in text[:NOTICE].split("\n"))
    return "\n".join(line for line in lines if not line.startswith(">> ") and line.count(">") < 6)


def _own_words(notice: str) -> str:
    """Its beginning, up to what it quotes or forwards: who replies to a bounce or passes one on sends none."""
    kept: list[str] = []
    for line in notice.split("\n"):
        if kept and RETURNED_BELOW.match(line):
            break
        if not line.startswith(">"):
            kept.append(line)
        if len(kept) > 80:
            break
    return "\n".join(kept)[:OWN_WORDS]


class _Signs:
    """What may tell a bounce. The words are looked through only where something else is suspicious: they are
    many, and ordinary mail has them too."""

    def __init__(self, headers: Headers, body: Body, envelope_from: str | None) -> None:
        self._headers, self._body = headers, body
        self.subject = headers.first("subject")
        self.by_system = (
            _is_mail_system(headers) or envelope_from == "" or headers.raw_first("return-path") == "<>"
        )
        self.in_subject = FAILED_SUBJECT.search(self.subject.lower())

    @cached_property
    def notice(self) -> str:
        return _notice(self._body.text)

    @cached_property
    def in_words(self) -> bool:
        return FAILED_BODY.search(_own_words(self.notice).lower()) is not None

    @cached_property
    def statuses(self) -> list[str]:
        """The reports, and one that lost its type on the way: its fields stand in the text."""
        if self._body.statuses or not (self.by_system or self.in_subject) or self.is_answer:
            return self._body.statuses
        names = {match[0].rstrip(": \t").lower() for match in PLAIN_FIELDS.finditer(self.notice)}
        return [self.notice] if "final-recipient" in names and names & {"action", "status"} else []

    @cached_property
    def blocks(self) -> list[dict[str, str]]:
        return list(islice(_blocks(self.statuses), RECIPIENTS_LIMIT * 2))

    @cached_property
    def is_answer(self) -> bool:
        """Whether a person answers a bounce or passes one on. Some servers append what failed to "Re: ..."."""
        if self.by_system:
            return False
        if self._headers.has("in-reply-to"):
            return True
        at = self.in_subject.start() if self.in_subject else 0
        return NOT_A_BOUNCE.match(self.subject) is not None and at < len(self.subject) / 2

    def evidence(self) -> tuple[list[str], bool]:
        """The signs, if they suffice, and whether they do even where no recipient can be found."""
        if self.blocks:
            actions = _actions(self.blocks)
            if actions and actions <= {"delivered", "relayed", "expanded"}:
                return [], False  # a report of success: delivered, relayed or expanded
            return ["it carries a delivery report (RFC 3464)"], True
        if self._headers.has("x-failed-recipients"):
            return ["it has X-Failed-Recipients"], True
        if self.is_answer or not (self.by_system or self.in_subject or self._body.returned):
            return [], False
        returned = bool(self._body.returned) or RETURNED_BELOW_ANYWHERE.search(self.notice) is not None
        evidence = (
            ["it comes from a mail system"] * self.by_system
            + ["its subject says that delivery failed"] * bool(self.in_subject)
            + ["its text says that delivery failed"] * self.in_words
            + ["it returns a message"] * returned
        )
        said = bool(self.in_subject) + self.in_words
        if not said or (said == 1 and not self.by_system):
            return [], False
        return evidence, returned or (self.by_system and said == 2)


def _is_mail_system(headers: Headers) -> bool:
    sender = " ".join(headers.every("from", 1))
    return MAIL_SYSTEM.search(sender.lower()) is not None or sender.endswith("<>")


# What a report says


def _blocks(statuses: Iterable[str]) -> Iterator[dict[str, str]]:
    """The groups of fields of reports: one for the message, and one for each recipient."""
    for status in statuses:
        for block in re.split(r"\n[ \t]*\n", status[:200_000], maxsplit=RECIPIENTS_LIMIT * 2)[
            : RECIPIENTS_LIMIT * 2
        ]:
            fields: dict[str, str] = {}
            for match in FIELD.finditer(block.encode("utf-8", "replace")):
                value = cleaned(match[2][:2_000].decode("utf-8", "replace"))
                fields.setdefault(match[1].lower().decode("ascii"), value)
            if fields:
                yield fields


def _actions(blocks: Iterable[dict[str, str]]) -> set[str]:
    found = (re.match(r"\w+", block["action"].lower()) for block in blocks if "action" in block)
    return {match[0] for match in found if match}


def _reported(blocks: Iterable[dict[str, str]]) -> list[FailedRecipient]:
    found: dict[str, FailedRecipient] = {}
    for block in blocks:
        action = block.get("action", "").lower()
        if action.startswith(("delivered", "relayed", "expanded")):
            continue
        # The address it was sent to, as we know it, before the one that it was passed on to.
        names = ("original-recipient", "final-recipient", "x-actual-recipient")
        address = next((address for name in names if (address := _typed_address(block.get(name, "")))), "")
        if not address:
            continue
        diagnostic = block.get("diagnostic-code", "").partition(";")[2].strip() or block.get(
            "diagnostic-code", ""
        )
        status = match[0] if (match := STATUS_CODE.search(block.get("status", ""))) else ""
        if (not status or status.endswith(".0.0")) and (closer := STATUS_CODE.search(diagnostic)):
            status = closer[0]
        permanent = _permanence(status, diagnostic)
        if action.startswith("delay"):
            permanent = False
        elif permanent is None and action.startswith("fail"):
            permanent = True
        found.setdefault(
            address.lower(), FailedRecipient(address, permanent, status, diagnostic[:DIAGNOSTIC_LIMIT])
        )
    return list(found.values())


def _typed_address(value: str) -> str:
    """The address in a recipient field: `rfc822; <jane@council.example>`, and what others make of it."""
    match = ADDRESS.search(value.rpartition(";")[2].replace("mailto:", "")) or ADDRESS.search(value)
    return match[0].strip("<>\"'").removeprefix("SMTP:") if match and is_address(match[0]) else ""


def _permanence(status: str, diagnostic: str) -> bool | None:
    """RFC 3463 section 3.1: 5 is permanent, 4 is not."""
    if status[:1] in ("4", "5"):
        return status[0] == "5"
    code = REPLY_CODE.search(f"{diagnostic} ")
    return code[1] == "5" if code else None


# What the home-made kinds say


def _in_header(headers: Headers, notice: str) -> list[FailedRecipient]:
    addresses = ADDRESS.findall(" ".join(headers.every("x-failed-recipients", 5)).replace(",", " "))
    return [_described(address, notice) for address in dict.fromkeys(addresses)]


def _home_made(
    raw: bytes, notice: str, body: Body, ours: frozenset[str] | set[str]
) -> tuple[list[FailedRecipient], bool]:
    """The recipients, and whether flufl.bounce knows the format."""
    temporary, permanent = _asked(raw)
    addresses = [address for address in (*temporary, *permanent) if address.lower() not in ours]
    known = bool(addresses)
    if not addresses:
        addresses = _named(_until_returned(notice), ours) or _named(notice, ours, certain=True)
    if not addresses:  # whom the returned message was written to, if that is one
        sent_to = [[address for _, address in returned.people("to")] for returned in body.returned[:3]]
        sent_to.append(ADDRESS.findall(" ".join(RETURNED_TO.findall(body.text)[:3])))
        addresses = next((to for to in sent_to if len(set(to)) == 1 and to[0].lower() not in ours), [])
    delayed = {address.lower() for address in temporary}
    found = dict.fromkeys(addresses)
    return [_described(address, notice, delayed=address.lower() in delayed) for address in found], known


def _asked(raw: bytes) -> tuple[list[str], list[str]]:
    """The temporary and the permanent failures that flufl.bounce finds."""
    head, blank, rest = raw[:ASKED_BYTES].replace(b"\r\n", b"\n").partition(b"\n\n")
    rest = LONG_LINE.sub(rb"\g<0>\n", BLANK_LINES.sub(b"\n\n", rest))
    try:
        message = PARSER.parsebytes(head + blank + rest)
        if "@" not in str(message.get("from", "")):  # one of its readers takes an address there for granted
            del message["from"]
            message["From"] = "nobody@invalid"
        found = all_failures(message)
    except Exception:  # it was written for mail that somebody had looked at
        return [], []
    temporary, permanent = (
        sorted(
            text
            for address in addresses
            if is_address(text := address.decode("utf-8", "replace").strip(".:;"))
        )
        for addresses in found
    )
    return temporary, permanent


def _until_returned(notice: str) -> str:
    found = RETURNED_BELOW_ANYWHERE.search(notice, min(40, len(notice)))
    return notice[: found.start()] if found else notice[:4_000]


def _named(notice: str, ours: frozenset[str] | set[str], *, certain: bool = False) -> list[str]:
    """Addresses that stand where a failed one does: in brackets or alone in a line, or after words that say so; with
    `certain`, only where a line says that it is one."""
    addresses: list[str] = []
    expected = 0
    for line in notice.split("\n"):
        text = line.strip()
        expected = 6 if WORD_OF_ADDRESSES.search(text.lower()) else expected - bool(text)
        for match in ADDRESS.finditer(text[:500]):
            address = match[0].strip("'<>*_=").rstrip(".:")
            before = text[: match.start()]
            stands = LABEL.fullmatch(before) if certain else expected > 0 or BEFORE.fullmatch(before)
            if stands and is_address(address) and address.lower() not in ours:
                addresses.append(address)
    usual = [address for address in addresses if not MAIL_SYSTEM.search(address.lower())]
    return list(dict.fromkeys(usual))[:RECIPIENTS_LIMIT]


def _described(address: str, notice: str, *, delayed: bool = False) -> FailedRecipient:
    """What the notice says near an address, else anywhere."""
    at = notice.find(address)
    near = notice[at : at + 600] if at >= 0 else ""
    before = notice[max(0, at - 300) : at] if at >= 0 else ""
    diagnostic = next(
        (text for text in (near, before, notice[:4_000]) if _permanence(_status(text), text) is not None), ""
    )
    status = _status(diagnostic)
    permanent = (
        False if delayed or DELAYED.search(notice[:2_000].lower()) else _permanence(status, diagnostic)
    )
    lines = [cleaned(line) for line in (diagnostic or near).split("\n")]
    said = next((line for line in lines if status and status in line), "")
    said = said or next((line for line in lines if REPLY_CODE.search(f"{line} ")), "") or " ".join(lines[:2])
    return FailedRecipient(
        address, True if permanent is None and not delayed else permanent, status, said[:DIAGNOSTIC_LIMIT]
    )


def _status(text: str) -> str:
    found = next((match for match in STATUS_CODE.finditer(text) if match[1] != "2"), None)
    return found[0] if found else ""


def _message_ids(headers: Headers, body: Body, blocks: Iterable[dict[str, str]]) -> tuple[str, ...]:
    """The Message-IDs of what came back, from its header, wherever that stands."""
    found: list[str] = []
    for returned in body.returned:
        found += returned.message_ids("message-id")
    for block in blocks:
        found += MESSAGE_ID.findall(
            block.get("original-message-id", "") + block.get("x-original-message-id", "")
        )
    found += headers.message_ids("x-original-message-id")
    if not found:
        found += [id for match in RETURNED_ID.finditer(body.text) for id in MESSAGE_ID.findall(match[1])]
    found += [*headers.message_ids("in-reply-to"), *headers.message_ids("references")]
    return tuple(dict.fromkeys(id for id in found if len(id) < 500))[:IDS_LIMIT]
