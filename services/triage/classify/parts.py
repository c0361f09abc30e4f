"""Cuts a mail into what its sender wrote now, what it quotes, how it is signed, and small print.

Nothing is thrown away: parts are offsets into the same text, and only decide how much a passage counts.
"""

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["own", "quoted", "signature", "small-print"]

_QUOTE_STARTS = re.compile(
    r"^\s*(?:-{2,}\s*(?:original message|forwarded message|forwarded by)|begin forwarded message"
    r"|_{8,}\s*$|from:\s*\S|on\b.{4,120}\bwrote:\s*$|.{4,120}\bwrote:\s*$)",
    re.IGNORECASE,
)
_HEADER = re.compile(r"^\s*(?:to|sent|subject|date|cc|reply-to):\s", re.IGNORECASE)
_CLOSING = re.compile(
    r"^\s*(?:(?:with|many|kind|kindest|warm|warmest|best|all|yours|very|much|in|my|and|&|good)\s+)*"
    r"(?:regards?|wishes|thanks|thank you|sincerely|faithfully|truly|cheers|ta|best|hope|anticipation"
    r"|appreciation|gratefully|respectfully|cordially|rgds|kr|bw)"
    r"(?:\s+(?:again|so much|in advance|in anticipation|for (?:your|reading|any)\b.{0,30}"
    r"|and\b.{0,25}|all|very much))?"
    r"\s*[,.!\-–]*\s*(?:[\w.'’-]+\s*){0,1}$",
    re.IGNORECASE,
)
_POSTSCRIPT = re.compile(r"^\s*p\.?\s?p?\.?s\.?\b[\s:,.\-–]", re.IGNORECASE)
_SMALL_PRINT = re.compile(
    r"intended recipient|consider the environment|views expressed"
    r"|registered (?:office|in england|charity|company|society)|company (?:no|number)|may be monitored"
    r"|legally privileged|scanned for viruses|e-?mail and any (?:attachments?|files)|sent from my"
    r"|get outlook for|is a registered society|freedom of information act 2000 .{0,40}disclos|unsubscribe"
)
# Most mails have none of these, and looking for plain words is a hundred times cheaper than the pattern.
_SMALL_PRINT_WORDS = (
    "intended recipient", "the environment", "views expressed", "registered", "company n", "be monitored",
    "privileged", "scanned for", "mail and any", "sent from", "get outlook", "act 2000", "unsubscribe",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    kind: Kind
    start: int
    end: int


def parts_of(text: str) -> list[Part]:
    """The whole of a text that `flat` has gone over, as parts in order, without gaps."""
    lines: list[tuple[int, int, str]] = []
    offset = 0
    for line in text.splitlines(keepends=True):
        lines.append((offset, offset + len(line), line.rstrip()))
        offset += len(line)
    kinds: list[Kind] = []
    now: Kind = "own"
    signed_at = 0
    may_be_small = any(words in text for words in _SMALL_PRINT_WORDS)
    for number, (_, _, line) in enumerate(lines):
        following = lines[number + 1][2] if number + 1 < len(lines) else ""
        if line.lstrip().startswith(">"):
            kinds.append("quoted")
            continue
        if now != "quoted" and _starts_quote(line, following, lines, number):
            now = "quoted"
        elif now == "own" and (line in {"--", "-- "} or (len(line) < 60 and _CLOSING.match(line))):
            now, signed_at = "signature", number
        elif now == "signature" and (
            _POSTSCRIPT.match(line)
            or (len(line) > 120 and number - signed_at < 12 and not _SMALL_PRINT.search(line))
        ):
            now = "own"  # a postscript, or "Thanks" that was not the end after all
        small = (
            may_be_small
            and now != "quoted"
            and (now == "signature" or len(line) < 400)
            and _SMALL_PRINT.search(line)
        )
        kinds.append("small-print" if small else now)
    parts: list[Part] = []
    for (start, end, _), kind in zip(lines, kinds, strict=True):
        if parts and parts[-1].kind == kind:
            parts[-1] = Part(kind, parts[-1].start, end)
        else:
            parts.append(Part(kind, start, end))
    return parts


def _starts_quote(line: str, following: str, lines: list[tuple[int, int, str]], number: int) -> bool:
    found = _QUOTE_STARTS.match(line)
    if not found:
        return False
    if line.lstrip().lower().startswith("from:"):  # "From: all of us" is a header only with its fellows
        return any(_HEADER.match(text) for _, _, text in lines[number + 1 : number + 4])
    if line.rstrip().endswith("wrote:"):
        return (
            following == ""
            or following.lstrip().startswith(">")
            or "@" in line
            or bool(re.search(r"\d", line))
        )
    return True


@dataclass(frozen=True, slots=True)
class Passage:
    """A sentence or list item, and the part it belongs to. `listed` items go on with the one above."""

    kind: Kind
    start: int
    end: int
    listed: bool


_ITEM = re.compile(r"^\s*(?:[-*•–]|\(?(?:\d{1,2}|[a-z]|[ivx]{1,4})[.)])\s+", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.?!]+[\"')\]]*(?=\s)|;(?=\s)|\n")


def passages_of(flattened: str, parts: list[Part]) -> list[Passage]:
    """Sentences, clauses after a semicolon, and list items. Hard-wrapped lines are joined."""
    found: list[Passage] = []
    for part in parts:
        start, listed = part.start, False
        for match in _SENTENCE_END.finditer(flattened, part.start, part.end):
            if match.group() == "\n" and not _breaks(flattened, match.start(), part.end, start):
                continue
            if match.group() == "." and flattened[max(match.start() - 3, 0) : match.start()].endswith(
                _ABBREVIATED
            ):
                continue
            if flattened[start : match.end()].strip():
                listed = _append(found, part.kind, flattened[start : match.end()], start, listed)
            start = match.end()
            if match.group() == "\n" and not _ITEM.match(flattened[start : start + 12]):
                listed = False
        if flattened[start : part.end].strip():
            _append(found, part.kind, flattened[start : part.end], start, listed)
    return found


_ABBREVIATED = ("e.g", "i.e", " dr", " mr", "mrs", " ms", "rev", " no", " st", "inc", "etc", "approx")


def _append(found: list[Passage], kind: Kind, text: str, start: int, listed: bool) -> bool:
    listed = listed or bool(_ITEM.match(text[:12]))
    found.append(Passage(kind, start, start + len(text), listed))
    return listed


def _breaks(text: str, newline: int, end: int, start: int) -> bool:
    """Whether a line's end is also a sentence's: not where a mail program wrapped the line."""
    following = text[newline + 1 : min(newline + 200, end)].split("\n", 1)[0]
    if not following.strip() or _ITEM.match(following):
        return True
    line_start = text.rfind("\n", 0, newline) + 1
    line = text[max(line_start, start) : newline]
    return not (55 <= newline - line_start <= 90) or line.rstrip().endswith((":", ","))
