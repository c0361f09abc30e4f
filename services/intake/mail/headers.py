"""Header fields from raw bytes: unfolded and decoded one by one, so that a broken one harms no other."""

import binascii
import re
from collections.abc import Iterator
from email.utils import parseaddr

from services.intake.mail.charsets import decoded, storable

BLOCK_LIMIT = 256 * 1024
VALUE_LIMIT = 10_000
"""Bytes of one field that are looked at; what an attacker adds beyond costs nothing."""
LINE_LIMIT = 998
"""Characters of one decoded header, RFC 5322 section 2.1.1."""
NAME_LIMIT = 200
ADDRESS_LIMIT = 320
IDS_LIMIT = 100
"""Message ids of one field: threads grow, and the latest are what one is answered to."""

FIELD = re.compile(rb"^([!-9;-~]{1,80})[ \t]*:(.*(?:\n[ \t].*)*)", re.MULTILINE)
ENCODED_WORD = re.compile(r"=\?([^?\s]{1,64})\?([bBqQ])\?([^?]*)\?=")
# Left-to-right marks and overrides let a name show as another.
BIDI = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
ATOM = r"""[^\s@<>()\[\],;:\\"\x00-\x1f\x7f]+"""
ADDRESS = re.compile(rf"""(?:{ATOM}|"[^"\\\x00-\x1f\x7f]+")@{ATOM}""")
IN_ANGLES = re.compile(rf"<\s*(?:mailto:)?({ADDRESS.pattern})\s*>")
MESSAGE_ID = re.compile(r"<[!-;=?-~]+>")


class Headers:
    """The header block of a message. Names are lower case; values are raw bytes until asked for."""

    def __init__(self, raw: bytes) -> None:
        self._read(split(raw[:BLOCK_LIMIT])[0])

    @classmethod
    def of_block(cls, block: bytes) -> "Headers":
        """Of a header block alone, with bare line feeds."""
        headers = cls.__new__(cls)
        headers._read(block)
        return headers

    def _read(self, block: bytes) -> None:
        self._fields: dict[str, list[bytes]] = {}
        self.names: list[str] = []
        for match in FIELD.finditer(block):
            name = match[1].lower().decode("ascii")
            self.names.append(name)
            self._fields.setdefault(name, []).append(match[2])

    def first(self, name: str) -> str:
        """The first such field as one line of text, or nothing. Never longer than RFC 5322 allows a line."""
        values = self._fields.get(name)
        return cleaned(decoded_words(decoded(values[0][:VALUE_LIMIT])))[:LINE_LIMIT] if values else ""

    def raw_first(self, name: str) -> str:
        """The first such field as one line, its encoded words as they stand: for fields with a structure."""
        values = self._fields.get(name)
        return " ".join(decoded(values[0][:VALUE_LIMIT]).split()) if values else ""

    def every(self, name: str, limit: int = 20) -> list[str]:
        """The first `limit` such fields, from the top, each as one line."""
        return [cleaned(decoded(value[:VALUE_LIMIT])) for value in self._fields.get(name, ())[:limit]]

    def topmost(self, name: str, limit: int) -> list[str]:
        """Such fields in the first unbroken run of them, if that stands above the message's second Received: what
        is further down was there when the message came in."""
        at = self.names.index(name) if name in self._fields else len(self.names)
        if self.names[:at].count("received") > 1:
            return []
        run = 0
        while at + run < len(self.names) and self.names[at + run] == name:
            run += 1
        return self.every(name, min(run, limit))

    def message_ids(self, name: str) -> tuple[str, ...]:
        """The message ids in such fields, each once, the last ones where there are too many."""
        found = dict.fromkeys(id for value in self.every(name, 3) for id in MESSAGE_ID.findall(value))
        return tuple(id for id in found if len(id) <= LINE_LIMIT)[-IDS_LIMIT:]

    def people(self, name: str) -> Iterator[tuple[str, str]]:
        """Display name and usable address of the first mailbox of each such field."""
        for value in self._fields.get(name, ())[:3]:
            # Structure first, encoded words after: what is inside an encoded word is never structure.
            person = mailbox(cleaned(decoded(value[:VALUE_LIMIT])))
            if person:
                yield person

    def has(self, name: str) -> bool:
        return name in self._fields


def split(raw: bytes) -> tuple[bytes, bytes]:
    """Header block and body, with bare line feeds. Blank lines and an mbox line before them are left out."""
    text = raw.replace(b"\r\n", b"\n").lstrip(b"\n")
    if text.startswith((b"From ", b">From ")):
        text = text.partition(b"\n")[2]
    if text.startswith(b"\n"):
        return b"", text[1:]
    head, _, body = text.partition(b"\n\n")
    return head, body


def cleaned(text: str) -> str:
    """One line without control or direction characters: it may go into a header again."""
    return BIDI.sub("", storable(" ".join(text.split())))


def decoded_words(text: str) -> str:
    """RFC 2047 encoded words decoded; a broken one is left as it stands.

    Neighbours in one charset are joined before decoding, since senders cut characters in two.
    """
    if "=?" not in text:
        return text
    pieces: list[str] = []
    charset, pending, end = "", b"", 0
    for word in ENCODED_WORD.finditer(text):
        gap = text[end : word.start()]
        between = bool(end) and (not gap or gap.isspace())
        name = word[1].partition("*")[0].lower()
        if pending and (not between or name != charset):
            pieces.append(decoded(pending, charset))
            pending = b""
        if not between:
            pieces.append(gap)
        charset, end = name, word.end()
        pending += _word_bytes(word[2], word[3])
    pieces.append(decoded(pending, charset))
    return "".join(pieces) + text[end:]


def _word_bytes(encoding: str, payload: str) -> bytes:
    data = payload.encode("utf-8", "replace")
    try:
        if encoding in "bB":
            return binascii.a2b_base64(data + b"=" * (-len(data) % 4))
        return binascii.a2b_qp(data, header=True)
    except ValueError:
        return data


def mailbox(value: str) -> tuple[str, str] | None:
    """The first name and address in a From-like value, or None where no address can be written to.

    The standard library knows comments, quotes and groups; what it cannot read is searched for an address.
    """
    try:
        name, address = parseaddr(value)
    except Exception:  # it raises IndexError and RecursionError, among others
        name, address = "", ""
    if not ADDRESS.fullmatch(address):
        if found := IN_ANGLES.search(value):
            name, address = value[: found.start()].strip(' "'), found[1]
        elif found := ADDRESS.search(value):
            name, address = "", found[0].removeprefix("mailto:")
        else:
            return None
    if len(address) > ADDRESS_LIMIT or not is_address(address):
        return None
    name = cleaned(decoded_words(name))[:NAME_LIMIT].strip()
    return ("" if name == address else name), address


def is_address(text: str) -> bool:
    """Whether mail can be sent to it; lenient, as only the receiving server knows."""
    return 3 <= len(text) <= ADDRESS_LIMIT and text.isprintable() and ADDRESS.fullmatch(text) is not None


def message_id(value: str) -> str:
    """The Message-ID with its angle brackets, or nothing where it could not go into a header again."""
    if found := MESSAGE_ID.search(value):
        return found[0][:LINE_LIMIT]
    bare = value.strip("<> ")
    return f"<{bare}>" if bare and len(bare) < LINE_LIMIT - 2 and MESSAGE_ID.fullmatch(f"<{bare}>") else ""
