"""The parts of a message by their place in its bytes: split, never copied, within bounds of number and depth.

The standard library's parser compares every line with every open boundary and keeps each part as text: 25 MB
take it seconds and ten times the memory, and parameters in RFC 2231's encoding make it raise. Looking for a
part's own boundary is one search.
"""

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import unquote_to_bytes

from services.intake.mail.charsets import decoded
from services.intake.mail.headers import BLOCK_LIMIT, Headers, cleaned, decoded_words

PART_HEAD_LIMIT = 16 * 1024
FALSE_HITS_LIMIT = 10_000
"""Lines that begin like a boundary and are none."""
SIBLINGS_LIMIT = 500
LINES_LIMIT = 600_000
"""Lines of a uuencoded file: 36 MB."""

# The fields at the start of a part. What is no field begins the body: RFC 2046 lets a part have no header at all.
HEAD = re.compile(rb"(?:>?From .*\n)?(?:[!-9;-~]+[ \t]*:.*(?:\n[ \t].*)*(?:\n|\Z)){0,300}")
BOUNDARY = re.compile(rb"^--([^\s-][^\s]{0,199})[ \t]*\n(?=Content-[TD])", re.MULTILINE | re.IGNORECASE)
PARAMETER = re.compile(r""";\s*([^\s=;"]{1,80})\s*=\s*(?:"((?:[^"\\]|\\.)*)"?|([^;]*))""", re.DOTALL)
SECTION = re.compile(r"([^*]+)\*(?:(\d{1,3})(\*)?)?")
KIND = re.compile(r"\s*([\w.+-]+/[\w.+-]+)", re.ASCII)
WORD = re.compile(r"\s*([\w.+-]+)", re.ASCII)


@dataclass(slots=True)
class Field:
    """A structured field: `value` in lower case, and its parameters (names in lower case)."""

    value: str
    parameters: dict[str, str]


def field_of(raw: str, value: re.Pattern[str]) -> Field:
    """A field such as Content-Type; RFC 2231's continued and encoded parameters are put together."""
    found = value.match(raw)
    plain: dict[str, str] = {}
    sections: dict[str, list[tuple[int, bool, str]]] = {}
    for match in PARAMETER.finditer(raw):
        name = match[1].lower()
        text = re.sub(r"\\(.)", r"\1", match[2]) if match[2] is not None else match[3].strip()
        if section := SECTION.fullmatch(name):
            encoded = section[2] is None or section[3] is not None
            sections.setdefault(section[1], []).append((int(section[2] or 0), encoded, text))
        else:
            plain.setdefault(name, text)
    for name, found_sections in sections.items():
        plain[name] = _put_together(sorted(found_sections, key=lambda section: section[0]))
    return Field(found[1].lower() if found else "", plain)


def _put_together(sections: list[tuple[int, bool, str]]) -> str:
    charset, data = "", b""
    for number, encoded, text in sections:
        value = text
        if encoded and not number and value.count("'") >= 2:
            charset, _, value = value.split("'", 2)
        octets = value.encode("utf-8", "replace")
        data += unquote_to_bytes(octets) if encoded else octets
    return decoded(data, charset)


class Part:
    """One part: `data[start:end]`, of which the body begins at `body`."""

    __slots__ = ("__dict__", "body", "data", "default", "end", "headers")

    def __init__(
        self, data: bytes, headers: Headers, body: int, end: int, default: str = "text/plain"
    ) -> None:
        self.data, self.headers, self.body, self.end, self.default = data, headers, body, end, default

    @cached_property
    def content_type(self) -> Field:
        return field_of(self.headers.raw_first("content-type"), KIND)

    @cached_property
    def disposition(self) -> Field:
        return field_of(self.headers.raw_first("content-disposition"), WORD)

    @property
    def kind(self) -> str:
        """The claimed type, in lower case; RFC 2046's default where there is none."""
        return self.content_type.value or self.default

    @property
    def name(self) -> str:
        """The file name as sent, decoded (RFC 2231, and RFC 2047 for those who use it here), or nothing."""
        sent = self.disposition.parameters.get("filename") or self.content_type.parameters.get("name") or ""
        return decoded_words(cleaned(sent))

    @property
    def is_attached(self) -> bool:
        return self.disposition.value == "attachment"

    def children(self) -> "list[Part]":
        """The parts of a multipart. Where its boundary is missing or never met, what looks like one is taken."""
        default = "message/rfc822" if self.kind == "multipart/digest" else "text/plain"
        claimed = self.content_type.parameters.get("boundary", "").rstrip().encode("utf-8", "replace")
        places = list(_between(self.data, claimed, self.body, self.end)) if claimed else []
        if not places and (
            guess := BOUNDARY.search(self.data, self.body, min(self.end, self.body + BLOCK_LIMIT))
        ):
            places = list(_between(self.data, guess[1], self.body, self.end))
        return [part_at(self.data, start, end, default) for start, end in places]

    def message(self) -> "Part":
        """The message that is this part's body. One that was encoded, against RFC 2046 section 5.2.1, is decoded."""
        if self.encoding in ("base64", "quoted-printable"):
            inner = self.bytes().replace(b"\r\n", b"\n")
            return part_at(inner, 0, len(inner))
        return part_at(self.data, self.body, self.end)

    @property
    def encoding(self) -> str:
        found = WORD.match(self.headers.raw_first("content-transfer-encoding"))
        return found[1].lower() if found else ""

    def bytes(self, limit: int | None = None) -> bytes:
        """The decoded body, or what `limit` encoded bytes of it give. What cannot be decoded is as it came."""
        end = self.end if limit is None else min(self.end, self.body + limit)
        data = self.data[self.body : end]
        try:
            if self.encoding == "base64":
                return _base64(data)
            if self.encoding == "quoted-printable":
                return binascii.a2b_qp(data)
            if self.encoding in ("x-uuencode", "uuencode", "x-uue", "uue"):
                return b"".join(_uudecoded(data))
        except ValueError:
            pass
        return data


def part_at(data: bytes, start: int, end: int, default: str = "text/plain") -> Part:
    """The part that `data[start:end]` is, with bare line feeds."""
    head = HEAD.match(data, start, min(end, start + PART_HEAD_LIMIT))
    body = head.end() if head else start
    headers = Headers.of_block(data[start:body])
    if data[body : body + 1] == b"\n" and body < end:
        body += 1
    return Part(data, headers, body, end, default)


def _between(data: bytes, boundary: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Where each part begins and ends. The last one goes to the end where nothing closes it."""
    delimiter = b"--" + boundary
    opened: int | None = None
    position, parts, misses = start - 1, 0, 0
    while parts < SIBLINGS_LIMIT and misses < FALSE_HITS_LIMIT:
        if position < start and data.startswith(delimiter, start, end):
            at = start
        else:
            found = data.find(b"\n" + delimiter, max(position, start), end)
            if found < 0:
                break
            at = found + 1
        line_end = data.find(b"\n", at, end)
        line_end = end if line_end < 0 else line_end
        rest = data[at + len(delimiter) : min(line_end, at + len(delimiter) + 200)].strip()
        position = at + len(delimiter)
        if rest not in (b"", b"--"):
            misses += 1
            continue
        if opened is not None:
            parts += 1
            yield opened, max(opened, at - 1)
        if rest:
            return
        opened, position = min(line_end + 1, end), line_end
    if opened is not None:
        yield opened, end


def _base64(data: bytes) -> bytes:
    """Decoded as far as it can be: a cut or padded-in-the-middle text gives what stands before."""
    try:
        return binascii.a2b_base64(data)
    except binascii.Error:
        alphabet = re.sub(rb"[^A-Za-z0-9+/]", b"", data)
        whole = alphabet[: len(alphabet) - (len(alphabet) % 4 == 1)]
        return binascii.a2b_base64(whole + b"=" * (-len(whole) % 4))


def _uudecoded(data: bytes) -> Iterator[bytes]:
    lines = iter(data.split(b"\n", LINES_LIMIT)[:LINES_LIMIT])
    for line in lines:
        if line.startswith(b"begin "):
            break
    for line in lines:
        if line.strip() == b"end":
            return
        try:
            yield binascii.a2b_uu(line)
        except binascii.Error:  # some encoders pad a line too much: the count it begins with is what it means
            count = (((line[0] - 32) & 63) * 4 + 5) // 3 if line else 0
            yield binascii.a2b_uu(line[:count])
