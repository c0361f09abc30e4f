"""Readable text from an HTML body, in linear time and without ever raising.

No library does: given 300 kB of nested tags, Lexbor and inscriptis take more than ten seconds, which no timeout
within a process can end, and libxml2 drops all text more than 256 elements deep, where long threads have theirs.
"""

import re
from html import unescape

LIMIT = 1_000_000
"""Characters of HTML that are looked at."""
FOLD = "\ufdd0"
"""Stands at the beginning of a line from which on a mail program marked what it quotes. No character of text."""
OPEN, CLOSE = "\ufdd1", "\ufdd2"
QUOTE_DEPTH = 5

MARKS = re.compile(f"[{FOLD}{OPEN}{CLOSE}]")
# Each alternative stops at the next "<", so no input makes it look at anything twice.
MARKUP = re.compile(r"<(!--|[!?][^<>]*>|/?[a-zA-Z][^<>]*>)")
NAME = re.compile(r"/?([a-zA-Z0-9]{1,20})")
UNSEEN = frozenset({"script", "style", "head", "title", "template", "noscript"})
BREAKS = frozenset(
    {
        "address",
        "article",
        "aside",
        "blockquote",
        "br",
        "dd",
        "div",
        "dl",
        "dt",
        "figure",
        "footer",
        "form",
        "h1",
    }
    | {
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "li",
        "main",
        "ol",
        "p",
        "pre",
        "section",
        "table",
        "tr",
        "ul",
    }
)
BREAK_OF = {name: "\n\n" if name == "p" else "\n" for name in BREAKS} | {"td": " ", "th": " "}
# Indentation, as against quotation: what an editor's "increase indent" makes.
INDENTED = re.compile(
    r"(?!.*border-left)(?=.*border:\s*(?:none|0(?![.\d])|medium))", re.IGNORECASE | re.DOTALL
)
# How mail programs mark where what they quote or forward begins: Gmail, Outlook (three kinds), Thunderbird, Yahoo,
# Zimbra, Proton, GMX, Zoho, Tuta.
QUOTED_FROM = re.compile(
    r"""\b(?:gmail_quote|(?:x_)*divRplyFwdMsg|(?:x_)*appendonsend|stopSpelling|mail-editor-reference-message-container
    |OutlookMessageHeader|replySplit|moz-cite-prefix|moz-forward-container|yahoo_quoted|zwchr|protonmail_quote
    |zmail_extra|tutanota_quote|solid\ \#(?:B5C4DF|E1E1E1)\ 1\.0pt)\b|\bname=["']?quote\b""",
    re.IGNORECASE | re.VERBOSE,
)
BLANK_LINES = re.compile(r"\n(?:[ \t]*\n)+")


def text_of(html: str, tags: int = 100_000) -> tuple[str, int, bool]:
    """The text, quotations as lines that begin with ">", and `FOLD` where a mail program marked one; the number of
    tags seen, which is `tags` at most; and whether anything was left out for its length."""
    cut = len(html) > LIMIT
    html = MARKS.sub("", html[:LIMIT])
    lower = html.lower()
    unclosed: set[str] = set()  # what is known not to end any more, lest every one of many looks to the end
    pieces: list[str] = []
    blockquotes: list[bool] = []
    preformatted = position = seen = 0
    while found := MARKUP.search(html, position):
        if seen >= tags:
            cut, html = True, html[:position]
            break
        seen += 1
        if found.start() > position:
            pieces.append(_words(html[position : found.start()], preformatted))
        position = found.end()
        tag = found[1]
        if tag == "!--":
            position = _after("-->", lower, position, unclosed)
            continue
        closing = tag[0] == "/"
        name = match[1].lower() if (match := NAME.match(tag)) else ""
        if gap := BREAK_OF.get(name):
            pieces.append(gap)
        elif name in UNSEEN and not closing:
            position = _after(f"</{name}>", lower, position, unclosed)
        if name == "pre":
            preformatted = max(0, preformatted + (-1 if closing else 1))
        elif name == "blockquote":
            pieces.append(_quotation(tag, closing, blockquotes))
        elif (
            not closing
            and len(tag) > 12
            and name in ("div", "hr", "span")
            and QUOTED_FROM.search(tag[:1_000])
        ):
            pieces.append(f"\n{FOLD}\n")
    pieces.append(_words(html[position:], preformatted))
    return _lines(unescape("".join(pieces)).replace("\xa0", " ")), seen, cut


def _words(text: str, preformatted: int) -> str:
    return text if preformatted else re.sub(r"\s+", " ", text)


def _quotation(tag: str, closing: bool, open_: list[bool]) -> str:
    if not closing:
        open_.append(not INDENTED.match(tag[:1_000]))
        return OPEN if open_[-1] else ""
    return CLOSE if open_ and open_.pop() else ""


def _lines(text: str) -> str:
    lines: list[str] = []
    depth = 0
    for line in BLANK_LINES.sub("\n\n", text).split("\n"):
        depth += line.count(OPEN) - line.count(CLOSE)
        words = line.replace(OPEN, "").replace(CLOSE, "").strip()
        quotes = ">" * min(max(depth, 0), QUOTE_DEPTH)
        if words == FOLD:
            lines.append(FOLD)
        elif words:
            lines.append(f"{quotes} {words}" if quotes else words)
        elif lines and lines[-1].rstrip(">"):
            lines.append(quotes)
    # What marks a fold goes before the line it stands for.
    return re.sub(rf"{FOLD}[\n{FOLD}]*", FOLD, "\n".join(lines)).strip()


def _after(end: str, html: str, position: int, unclosed: set[str]) -> int:
    """Just behind the next `end`, or here where there is none."""
    if end in unclosed:
        return position
    found = html.find(end, position)
    if found < 0:
        unclosed.add(end)
        return position
    return found + len(end)
