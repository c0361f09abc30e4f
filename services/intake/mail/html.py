"""Readable text from an HTML body, in linear time and without ever raising."""

import re
from html import unescape

LIMIT = 1_000_000
"""Characters of HTML that are looked at."""

# Each alternative stops at the next "<", so no input makes it look at anything twice.
MARKUP = re.compile(r"<(!--|[!?][^<>]*>|/?[a-zA-Z][^<>]*>)")
NAME = re.compile(r"/?([a-zA-Z0-9]+)")
UNSEEN = frozenset({"script", "style", "head", "title", "template", "noscript"})
BREAKS = re.compile(
    "address|article|aside|blockquote|br|dd|div|dl|dt|figure|footer|form|h[1-6]|header|hr|li|main|ol|p|pre"
    "|section|table|tr|ul"
)


def text_of(html: str) -> str:
    html = html[:LIMIT]
    lower = html.lower()
    unclosed: set[str] = set()  # what is known not to end any more, lest every one of many looks to the end
    pieces: list[str] = []
    position = 0
    while found := MARKUP.search(html, position):
        pieces.append(re.sub(r"\s+", " ", html[position : found.start()]))
        position = found.end()
        if found[1] == "!--":
            position = _after("-->", lower, position, unclosed)
            continue
        name = match[1].lower() if (match := NAME.match(found[1])) else ""
        if BREAKS.fullmatch(name):
            pieces.append("\n\n" if name == "p" else "\n")
        elif name in ("td", "th"):
            pieces.append(" ")
        elif name in UNSEEN and not found[1].startswith("/"):
            position = _after(f"</{name}>", lower, position, unclosed)
    pieces.append(re.sub(r"\s+", " ", html[position:]))
    text = unescape("".join(pieces)).replace("\xa0", " ")
    lines = "\n".join(line.strip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", lines).strip()


def _after(end: str, html: str, position: int, unclosed: set[str]) -> int:
    """Just behind the next `end`, or here where there is none."""
    if end in unclosed:
        return position
    found = html.find(end, position)
    if found < 0:
        unclosed.add(end)
        return position
    return found + len(end)
