"""What a message holds: its readable text, its files, and what a delivery report says; bounded in time and size."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from services.intake.mail.attachments import Attachment, attachment
from services.intake.mail.charsets import decoded, storable
from services.intake.mail.flowed import unflowed
from services.intake.mail.headers import BLOCK_LIMIT, Headers, split
from services.intake.mail.html import text_of
from services.intake.mail.parts import Part
from services.intake.mail.tnef import read_tnef

TEXT_LIMIT = 200_000
"""Characters of text in an event; the raw message keeps the whole."""
PART_BYTES = 1_000_000
"""Bytes of one part that are read as text."""
TEXT_BYTES = 4 * 1024 * 1024
"""Bytes of all parts together that are read as text."""
HTML_TAGS = 100_000
"""Tags of all parts together: three microseconds each."""
PARTS_LIMIT = 500
FILES_LIMIT = 100
DEPTH_LIMIT = 20
REPORTS_LIMIT = 20

FORWARDED = "---------- Forwarded message ----------"
CIPHERS = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime", "application/pgp-encrypted"})
CIPHER_FILES = ("smime.p7m", "encrypted.asc")
TNEF = frozenset({"application/ms-tnef", "application/vnd.ms-tnef"})
RETURNED_HEADERS = frozenset({"text/rfc822-headers", "text/rfc822-header", "message/rfc822-headers"})
STATUS = frozenset({"message/delivery-status", "message/global-delivery-status"})
# Text that is a file to whoever sent it, even without a name.
FILES = frozenset({"text/calendar", "text/csv", "text/vcard", "text/x-vcard", "text/directory", "text/rtf"})
STUB = re.compile(
    r"(?=.*\bhtml\b)(?=.*\b(?:view|display|support|read|client|enabled?)\b)", re.IGNORECASE | re.DOTALL
)


@dataclass(slots=True)
class Body:
    """`text` may hold marks of where quotations begin (`html.FOLD`). `problems` says what could not be read; what
    could be is in `text` all the same, and `unreadable` that nothing could.

    `kinds` are the types of the parts that are the message's own, not a forwarded one's; `statuses` the contents
    of its delivery reports (RFC 3464), `returned` the headers of messages that came along.
    """

    text: str = ""
    cut: bool = False
    unreadable: bool = False
    problems: list[str] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)
    statuses: list[str] = field(default_factory=list)
    returned: list[Headers] = field(default_factory=list)


def body_of(message: Part) -> Body:
    """Everything a message holds. Never raises."""
    reading = _Reading()
    try:
        inline, attached = reading.texts(message, 0)
    except Exception as error:  # whatever a reader of hostile input raises, RecursionError included
        return as_source(message, type(error).__name__)
    body = reading.body
    text = inline if inline.strip() else attached
    if reading.limit:
        body.problems.append(reading.limit)
    if not text.strip() and body.problems:
        source = as_source(message, ", ".join(body.problems[:5]))
        source.attachments = body.attachments
        source.kinds, source.statuses, source.returned = body.kinds, body.statuses, body.returned
        return source
    body.cut = body.cut or len(text) > TEXT_LIMIT
    body.text = text[:TEXT_LIMIT]
    return body


def files_of(message: Part) -> Iterator[bytes]:
    """The bytes of each attachment, in the order in which `body_of` lists them."""
    reading = _Reading(keep=True)
    reading.texts(message, 0)
    yield from reading.files


def as_source(message: Part, problem: str) -> Body:
    """The body as it stands, for a message whose structure cannot be read: somebody will read it."""
    end = min(message.end, message.body + PART_BYTES)
    notice = f"[This message could not be read: {problem}. Its source follows.]\n\n"
    text = notice + storable(decoded(message.data[message.body : end]))
    cut = len(text) > TEXT_LIMIT or end < message.end
    return Body(text[:TEXT_LIMIT], cut, unreadable=True, problems=[problem])


def whole(raw: bytes) -> Part:
    """The message itself as a part."""
    head, body = split(raw)
    headers = Headers.of_block(head[:BLOCK_LIMIT])
    if head and not headers.names:  # no message, then, but somebody's words all the same
        body = b"%b\n\n%b" % (head, body)
    return Part(body, headers, 0, len(body))


class _Reading:
    """Goes through the parts in their order, each guarded for itself."""

    def __init__(self, *, keep: bool = False) -> None:
        self.body = Body()
        self.limit = ""
        self.files: list[bytes] = []
        self._keep = keep
        self._parts = 0
        self._text_bytes = 0
        self._tags = HTML_TAGS

    def texts(self, part: Part, depth: int, *, wanted: bool = True, own: bool = True) -> tuple[str, str]:
        """Text that is part of the message, and text that came attached to it.

        `wanted` is false where another alternative was taken, `own` inside a message that came along.
        """
        self._parts += 1
        if self._parts > PARTS_LIMIT or depth > DEPTH_LIMIT:
            self.limit = (
                "it has too many parts" if self._parts > PARTS_LIMIT else "its parts are nested too deep"
            )
            return "", ""
        kind = part.kind
        if own:
            self.body.kinds.add(kind)
        if kind.startswith("multipart/"):
            if children := part.children():
                return self._multipart(kind, children, depth, wanted, own)
            kind = "text/plain"  # one without usable parts is one text: RFC 2046 section 5.1.1
        if kind in ("message/rfc822", "message/global"):
            return self._forwarded(part, depth, wanted, own)
        return self._leaf(part, kind, wanted, own)

    def _multipart(
        self, kind: str, children: list[Part], depth: int, wanted: bool, own: bool
    ) -> tuple[str, str]:
        if kind == "multipart/alternative":
            # One says it all, and plain text says it best; of the others only the files are looked at.
            children.sort(key=lambda child: child.kind != "text/plain")
            chosen = stub = ("", "")
            for child in children:
                text = self._guarded(child, depth + 1, wanted and not chosen[0].strip(), own)
                if len(children) > 1 and child.kind == "text/plain" and _is_stub(text[0]):
                    stub = text
                elif not chosen[0].strip():
                    chosen = text
            return chosen if chosen[0].strip() else stub
        pairs = [self._guarded(child, depth + 1, wanted, own) for child in children]
        return _joined(inline for inline, _ in pairs), _joined(attached for _, attached in pairs)

    def _guarded(self, part: Part, depth: int, wanted: bool, own: bool) -> tuple[str, str]:
        try:
            return self.texts(part, depth, wanted=wanted, own=own)
        except Exception as error:
            self.body.problems.append(f"one part: {type(error).__name__}")
            return "", ""

    def _leaf(self, part: Part, kind: str, wanted: bool, own: bool) -> tuple[str, str]:
        if kind in STATUS and own:
            if len(self.body.statuses) < REPORTS_LIMIT:
                self.body.statuses.append(self._text(part, "text/plain"))
            return "", ""
        if kind in RETURNED_HEADERS:
            data = part.bytes(PART_BYTES).replace(b"\r\n", b"\n")
            if own and len(self.body.returned) < REPORTS_LIMIT:
                self.body.returned.append(Headers(data))
            return "", ""
        if kind in TNEF or (kind == "application/octet-stream" and part.name.lower() == "winmail.dat"):
            return self._tnef(part)
        is_text = kind.startswith("text/") and kind not in FILES
        if not is_text or part.is_attached or part.name:
            self._file(part.name, kind, part.bytes())
        if kind in CIPHERS or part.name.lower() in CIPHER_FILES:
            self.body.problems.append("it is encrypted")
        if not wanted or not is_text or (part.is_attached and kind != "text/plain"):
            return "", ""
        text = self._text(part, kind)
        return ("", text) if part.is_attached else (text, "")

    def _text(self, part: Part, kind: str) -> str:
        size = part.end - part.body
        if size > PART_BYTES or self._text_bytes > TEXT_BYTES:
            self.body.cut = True
        if self._text_bytes > TEXT_BYTES:
            return ""
        self._text_bytes += min(size, PART_BYTES)
        parameters = part.content_type.parameters
        text = storable(decoded(part.bytes(PART_BYTES), parameters.get("charset", "")))
        if kind == "text/html":
            return self._html(text)
        if parameters.get("format", "").lower() == "flowed":
            return unflowed(text, delete_space=parameters.get("delsp", "").lower() == "yes")
        return text

    def _html(self, text: str) -> str:
        text, tags, cut = text_of(text, self._tags)
        self._tags -= tags
        self.body.cut = self.body.cut or cut
        return text

    def _file(self, name: str, kind: str, data: bytes) -> None:
        if len(self.body.attachments) >= FILES_LIMIT:
            self.limit = self.limit or f"it has more than {FILES_LIMIT} attachments"
            return
        self.body.attachments.append(attachment(name, kind, data, len(self.body.attachments) + 1))
        if self._keep:
            self.files.append(data)

    def _tnef(self, part: Part) -> tuple[str, str]:
        found = read_tnef(part.bytes())
        if not found.whole:
            self.body.problems.append("one part: winmail.dat cannot be read to its end")
        for name, data in found.files:
            self._file(name, "application/octet-stream", data)
        # Beside it stands, as a rule, the same text in plain: taken only where there is none, as if attached.
        return "", storable(found.text)[:TEXT_LIMIT] or self._html(storable(found.html[:PART_BYTES]))

    def _forwarded(self, part: Part, depth: int, wanted: bool, own: bool) -> tuple[str, str]:
        """A message inside the message: often the enquiry itself, passed on by a colleague."""
        inner = part.message()
        if own and len(self.body.returned) < REPORTS_LIMIT:
            self.body.returned.append(inner.headers)
        lines = [
            f"{name}: {value}"
            for name in ("From", "Date", "Subject")
            if (value := inner.headers.first(name.lower()))
        ]
        text = _joined(self._guarded(inner, depth + 1, wanted, own=False))
        return ("\n".join([FORWARDED, *lines, "", text]) if wanted and (lines or text) else ""), ""


def _is_stub(text: str) -> bool:
    """Whether plain text only says that the real text is in the HTML."""
    return len(text) < 300 and STUB.search(text.strip()) is not None


def _joined(texts: Iterable[str]) -> str:
    return "\n\n".join(text.strip("\n") for text in texts if text.strip())
