"""The readable text of a message's body, within bounds of time and size."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from email.policy import compat32

from services.intake.mail.charsets import decoded, storable
from services.intake.mail.headers import Headers, split
from services.intake.mail.html import text_of

TEXT_LIMIT = 200_000
"""Characters of text in an event; the raw message keeps the whole."""
PARSE_LIMIT = 4 * 1024 * 1024
"""Bytes handed to the parser: text stands before attachments, and its time grows with the size."""
PART_BYTES = 1_000_000
PARTS_LIMIT = 500
COMPARISONS_LIMIT = 5_000_000
"""The parser compares every line with every open boundary, some 0.15 microseconds each."""
DASHES_LIMIT = 10_000
"""Lines that may begin a part; each part takes the parser some 15 microseconds."""
DEPTH_LIMIT = 20

PARSER = BytesParser(policy=compat32)
BOUNDARY = re.compile(rb"boundary\s*=|boundary\*", re.IGNORECASE)


@dataclass(slots=True)
class Body:
    """`problems` says what could not be read; what could be is in `text` all the same."""

    text: str
    cut: bool = False
    problems: list[str] = field(default_factory=list)


def body_of(raw: bytes) -> Body:
    """The text of a message: text/plain where there is one, else from HTML. Never raises."""
    window = raw[:PARSE_LIMIT]
    try:
        if len(BOUNDARY.findall(window)) * window.count(b"\n") > COMPARISONS_LIMIT:
            return as_source(raw, "its parts are nested too deep")
        if window.count(b"\n--") > DASHES_LIMIT:
            return as_source(raw, "it has too many parts")
        walk = _Walk()
        inline, attached = walk.texts(PARSER.parsebytes(window), 0)
        text = inline if inline.strip() else attached
    except Exception as error:  # whatever a parser of hostile input raises, RecursionError included
        return as_source(raw, type(error).__name__)
    if walk.problems and not text.strip():
        return as_source(raw, ", ".join(walk.problems[:5]))
    cut = walk.cut or len(text) > TEXT_LIMIT or (len(window) < len(raw) and walk.last_is_text)
    return Body(text[:TEXT_LIMIT], cut, walk.problems)


def as_source(raw: bytes, problem: str) -> Body:
    """The body as it stands, for a message whose structure cannot be read: somebody will read it."""
    _, body = split(raw[:PARSE_LIMIT])
    notice = f"[This message could not be read: {problem}. Its source follows.]\n\n"
    text = notice + storable(decoded(body[:PART_BYTES]))
    return Body(text[:TEXT_LIMIT], len(text) > TEXT_LIMIT or len(body) > PART_BYTES, [problem])


class _Walk:
    """Goes through the parts in their order, each guarded for itself."""

    def __init__(self) -> None:
        self.cut = False
        self.last_is_text = False
        self.problems: list[str] = []
        self._parts = 0

    def texts(self, part: "Message[str, str]", depth: int) -> tuple[str, str]:
        """Text that is part of the message, and text that came attached to it."""
        self._parts += 1
        if self._parts > PARTS_LIMIT or depth > DEPTH_LIMIT:
            self.cut = True
            return "", ""
        kind = part.get_content_type()
        # Only of a multipart: of a text the library would decode it, by any codec the sender names.
        payload = part.get_payload() if part.is_multipart() else []
        children = [child for child in payload if isinstance(child, Message)]
        if not children:
            return self._leaf(part, kind)
        if kind == "message/rfc822":
            return self._forwarded(children, depth)
        if kind == "multipart/alternative":
            # One says it all, and plain text says it best; the others are not even decoded.
            children.sort(key=lambda child: child.get_content_type() != "text/plain")
            texts = (self._guarded(child, depth + 1) for child in children)
            return next((text for text in texts if text[0].strip()), ("", ""))
        pairs = [self._guarded(child, depth + 1) for child in children]
        return _joined(inline for inline, _ in pairs), _joined(attached for _, attached in pairs)

    def _guarded(self, part: "Message[str, str]", depth: int) -> tuple[str, str]:
        try:
            return self.texts(part, depth)
        except Exception as error:
            self.problems.append(f"one part: {type(error).__name__}")
            return "", ""

    def _leaf(self, part: "Message[str, str]", kind: str) -> tuple[str, str]:
        self.last_is_text = kind in ("text/plain", "text/html")
        if kind.startswith("multipart/"):
            kind = "text/plain"  # a multipart without usable parts is one text: RFC 2046 section 5.1.1
        # Asked of the raw header: the library's own accessor raises on some parameters.
        is_attached = str(part.get("content-disposition", "")).lstrip()[:10].lower() == "attachment"
        if kind not in ("text/plain", "text/html", "text/enriched") or (is_attached and kind != "text/plain"):
            return "", ""
        if encoding := str(part.get("content-transfer-encoding", "")):
            # The library knows "base64", but not "base64 " nor "base64; x".
            part.replace_header("content-transfer-encoding", encoding.partition(";")[0].strip())
        payload = part.get_payload(decode=True)
        data = payload if isinstance(payload, bytes) else b""
        if len(data) > PART_BYTES:
            self.cut, data = True, data[:PART_BYTES]
        text = storable(decoded(data, _charset(part)))
        if kind == "text/html":
            text = text_of(text)
        return ("", text) if is_attached else (text, "")

    def _forwarded(self, children: "list[Message[str, str]]", depth: int) -> tuple[str, str]:
        """A message inside the message: often the enquiry itself, passed on by a colleague."""
        inner = children[0]
        names = ("From", "Date", "Subject")
        source = "".join(f"{name}: {value}\n" for name in names if (value := inner.get(name)) is not None)
        headers = Headers(source.encode("utf-8", "surrogateescape"))
        lines = [f"{name}: {value}" for name in names if (value := headers.first(name.lower()))]
        text = _joined(self._guarded(inner, depth + 1))
        return "\n".join(["---------- Forwarded message ----------", *lines, "", text]), ""


def _charset(part: "Message[str, str]") -> str:
    try:
        return str(part.get_content_charset() or "")
    except Exception:  # an RFC 2231 parameter can name a codec that does not exist
        return ""


def _joined(texts: Iterable[str]) -> str:
    return "\n\n".join(text.strip("\n") for text in texts if text.strip())
