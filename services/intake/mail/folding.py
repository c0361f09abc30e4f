"""What is new in a message: its text without quoted replies and signatures, which stay in the whole text.

Nothing is cut, so the worst a mistake does is to show too much or to ask for one more click. The libraries for
this (mail-parser-reply, quotequail, email-reply-parser) know fewer languages, lose forwards or search whole
texts with patterns that take quadratic time; here each line is looked at a fixed number of times.
"""

import re

from services.intake.mail.fold_words import (
    FORWARD_BEGINS,
    FORWARD_SUBJECT,
    FORWARDED_MESSAGE,
    HEADER_NAMES,
    ORIGINAL_MESSAGE,
    SEE_BELOW,
    SENT_FROM,
    SIGN_OFF,
    WROTE,
)
from services.intake.mail.html import FOLD

LINE = 600
"""Characters of a line that are looked at."""
SEEN_AT_ONCE = 8
SIGNATURE_LINES = 12
COLONS_LIMIT = 300
"""Lines that end in a colon, and quotations, that are looked at for who is quoted."""
COVER_NOTE = 300
"""Characters above the fold that may be no more than a covering note."""

# How each line begins or ends with which a quotation, a forward or a marked signature could begin.
FOLDING = re.compile(
    rf"{FOLD}|[ \t]{{0,3}}(?:[A-Za-z]{{0,3}}>|\||[-_=*\u2500\u2014\u2013]{{2}}|\u2014)"
    r"|[^:：]{1,40}+[:：]|[^:：]*+[:：][ \t]*$"
)
QUOTED = re.compile(r"\s{0,3}[A-Za-z]{0,3}>|\s{0,3}\|(?: |$)")
DASHED_NAME = re.compile(r"-\s?[A-Z][\w.'-]{0,30}(?: [A-Z][\w.'-]{0,30}){0,2}\s*")
RULERS = frozenset("-_=*\u2500\u2013\u2014")
RULED = re.compile(r"\s*[-_=*]{2}")
RULE = re.compile(r"\s*[-_=*\u2500\u2014]{5,}\s*")
DASHES = re.compile(r"\s*(?:--|-- |\u2014|\u2013\u2013|__)\s*")
DATED = re.compile(r"\b\d{1,4}[./-]\d{1,2}[./-]\d{1,4}\b|\b(?:19|20)\d\d\b|\d{4}\s?[年년]")
TIMED = re.compile(r"\b\d{1,2}[:.h]\d\d\b")
ADDRESSED = re.compile(r"[^\s@<>]{1,64}@[^\s@<>]{1,255}")
OPENING = re.compile(
    r"[\s*\"'\u201c-]*(?:(?:on|am|le|el|il|em|op|den|dne|dnia|w dniu|в|pe|a|at|on the|à|den|il giorno|ngày|in article"
    r"|quoting|citando|zitat|citat)\b|\w{2,12}[.,]?,? \d|\d{1,4}[./-]\d|\d{4}\s?[年년]|\w{3,12}[,.]\s)",
    re.IGNORECASE,
)
CONTACT = re.compile(
    r"https?://|www\.|[^\s@]@[^\s@]+\.[a-z]{2}|(?:\+|\b0|\()\d[\d\s().-]{6,}"
    r"|\b(?:tel|phone|mobile|mob|fax|office|cell|t|m|f|skype)\b\s?[.:]\s*\S|\d{3}[.-]\d{3,4}[.-]\d{3,4}",
    re.IGNORECASE,
)


def new_text(text: str, subject: str = "", sender: str = "") -> str:
    """What is new in `text`, or all of it where that is nothing, or where the message passes another on.

    `sender` is the display name in From: a line that is just it begins a signature.
    """
    lines = text.split("\n")
    if any(map(FOLDING.match, lines)):
        cut, passes_on = _fold(lines)
        above = _without_signature(_unquoted(lines[:cut]), sender)
    else:  # as most first messages are
        cut, passes_on = len(lines), False
        above = _without_contact(_without_sent_from(lines), sender)
    new = "\n".join(above).strip()
    whole = plain(text)
    if not any(character.isalnum() for character in new):
        return whole
    has_below = cut < len(lines) or len(above) < len(lines)
    if has_below and (passes_on or FORWARD_SUBJECT.match(subject) or _is_cover_note(new)):
        return whole
    return plain(new)


def plain(text: str) -> str:
    """`text` without the marks of where quotations begin."""
    return text.replace(FOLD, "")


def _is_cover_note(new: str) -> bool:
    return len(new) < COVER_NOTE and SEE_BELOW.search(new.lower()) is not None


def _fold(lines: list[str]) -> tuple[int, bool]:
    """The line from which on all is another message's, and whether it is passed on rather than replied to."""
    colons = 0
    for at, whole_line in enumerate(lines):
        line = whole_line[:LINE]
        if line.startswith(FOLD):
            return _with_rule(lines, at), any(_forwards(after.lstrip(FOLD)) for after in lines[at : at + 3])
        if not line or QUOTED.match(line):
            continue
        ruled, colon = line.lstrip()[:1] in RULERS and RULED.match(line), ":" in line or "：" in line
        if (ruled or colon) and _forwards(line):
            return at, True
        if (ruled and ORIGINAL_MESSAGE.match(line.lower())) or (colon and _begins_headers(lines, at)):
            return _with_rule(lines, at), False
        if colon and colons < COLONS_LIMIT and line.rstrip().endswith((":", "：")):
            colons += 1
            start, certain = _attribution(lines, at)
            if certain and start is not None and not QUOTED.match(_next(lines, at)):
                return _with_rule(lines, start), False
    return len(lines), False


def _forwards(line: str) -> bool:
    lower = line[:LINE].lower()
    return bool(FORWARDED_MESSAGE.match(lower) or FORWARD_BEGINS.match(lower))


def _with_rule(lines: list[str], at: int) -> int:
    """Where a fold begins whose first line stands below a ruled line."""
    above = at - 1
    while above > 0 and not lines[above].strip() and at - above < 3:
        above -= 1
    return above if above >= 0 and RULE.fullmatch(lines[above][:LINE]) else at


def _next(lines: list[str], at: int) -> str:
    return next((line for line in lines[at + 1 : at + 5] if line.strip()), "")


def _begins_headers(lines: list[str], at: int) -> bool:
    """Whether a copied header begins here: From and two more of Date, To and Subject, in any language."""
    if _header_name(lines[at]) in ("", "to"):
        return False
    names = {_header_name(line) for line in lines[at : at + SEEN_AT_ONCE]}
    return "from" in names and len(names & {"date", "to", "subject"}) >= 2


def _header_name(line: str) -> str:
    name, colon, _ = line[:60].replace("：", ":").partition(":")
    return HEADER_NAMES.get(name.strip(" *_\t\xa0").lower(), "") if colon else ""


def _attribution(lines: list[str], at: int) -> tuple[int | None, bool]:
    """Where the "On ... wrote:" begins that ends at `at`, if one does, and whether it is one beyond doubt.

    Mail programs wrap it over up to four lines. What it says is the same in every language: a date, or an
    address, and a colon.
    """
    candidate = ""
    for start in range(at, max(-1, at - 4), -1):
        line = lines[start][:LINE].lstrip(FOLD).strip()
        if (
            not line
            or len(candidate) > LINE
            or (start < at and (QUOTED.match(line) or line.endswith((".", "?", "!"))))
        ):
            break
        candidate = f"{line} {candidate}".strip()
        dated, timed = DATED.search(candidate), TIMED.search(candidate)
        addressed, verb = ADDRESSED.search(candidate), WROTE.search(candidate.lower())
        if not OPENING.match(candidate):
            continue
        if (verb and (timed or addressed)) or (addressed and (dated or timed)):
            return start, True
        if verb and dated:
            return start, False
    line = lines[at][:LINE].strip()
    if WROTE.search(line.lower()) or ADDRESSED.search(line) or (DATED.search(line) and TIMED.search(line)):
        return at, False
    return None, False


def _unquoted(lines: list[str]) -> list[str]:
    """`lines` without quotations, and without the attribution that stands before each."""
    kept: list[str] = []
    quotations = 0
    for line in lines:
        if not QUOTED.match(line[:LINE]):
            kept.append(line)
            continue
        if kept and kept[-1] is not _GAP:
            if quotations < COLONS_LIMIT:
                _drop_attribution(kept)
            quotations += 1
            kept.append(_GAP)
    return [line for line in kept if line is not _GAP]


_GAP = "".join(["", "\0"])
"""Stands for a quotation; known by being itself."""


def _drop_attribution(kept: list[str]) -> None:
    at = len(kept) - 1
    while at >= 0 and not kept[at].strip() and len(kept) - at < 4:
        at -= 1
    if at < 0 or not kept[at][:LINE].rstrip().endswith((":", "：", "...", "…")):
        return
    start, _ = _attribution(kept, at)
    if start is not None:
        del kept[start:]


def _without_signature(lines: list[str], sender: str) -> list[str]:
    for at, line in enumerate(lines):
        if line.lstrip()[:1] not in RULERS:
            continue
        if DASHES.fullmatch(line[:LINE]) and (at or len(lines) > 1):
            lines = lines[:at]
            break
        if (
            at > len(lines) - 3 * SIGNATURE_LINES
            and RULE.fullmatch(line[:LINE])
            and _is_contact(lines[at + 1 :])
        ):
            lines = lines[:at]
            break
    return _without_contact(_without_sent_from(lines), sender)


def _without_sent_from(lines: list[str]) -> list[str]:
    end = len(lines)
    while end and (not lines[end - 1].strip() or SENT_FROM.match(lines[end - 1][:LINE].lower())):
        end -= 1
    if end > 1 and not lines[end - 2].strip() and DASHED_NAME.fullmatch(lines[end - 1][:LINE]):
        end -= 1
    return _trimmed(lines[:end])


def _without_contact(lines: list[str], sender: str) -> list[str]:
    """Without the block of name, post and telephone at the end; a mere sign-off stays."""
    tail = range(len(lines) - 1, max(0, len(lines) - SIGNATURE_LINES - 1), -1)
    wanted = sender.strip().lower()
    for at in tail:
        line = lines[at].strip()
        if len(line) > 80 or line.endswith(("?", "!")):
            break
        begins = bool(wanted) and line.lower() == wanted
        below = lines[at + 1 :]
        if begins and below:
            return _trimmed(lines[:at])
        if SIGN_OFF.fullmatch(line.lower()) and below and _is_contact(below):
            named = at + 2 if below[0].strip() and not CONTACT.search(below[0]) else at + 1
            return lines[:named]
    return _without_card(lines)


def _without_card(lines: list[str]) -> list[str]:
    """Without a last paragraph that is a name and ways to reach somebody, in short lines."""
    start = len(lines)
    while start > 0 and lines[start - 1].strip():
        start -= 1
    card = [line.strip() for line in lines[start:]]
    if (
        not 3 <= len(card) <= SIGNATURE_LINES
        or start == 0
        or CONTACT.search(card[0])
        or len(card[0].split()) > 5
    ):
        return lines
    short = all(len(line) <= 60 and not line.endswith((".", "?", "!", ",", ";", ":")) for line in card)
    reached = sum(CONTACT.search(line) is not None for line in card)
    return _trimmed(lines[:start]) if short and reached >= 2 else lines


def _is_contact(lines: list[str]) -> bool:
    filled = [line.strip() for line in lines if line.strip()]
    return (
        0 < len(filled) <= SIGNATURE_LINES
        and all(len(line) <= 100 for line in filled)
        and any(CONTACT.search(line) for line in filled)
    )


def _trimmed(lines: list[str]) -> list[str]:
    end = len(lines)
    while end and not lines[end - 1].strip():
        end -= 1
    return lines[:end]
