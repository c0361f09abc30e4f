"""What Outlook packs into `winmail.dat`: text and files (MS-OXTNEF).

tnefparse, the one library, has not been released since 2021, and loops four thousand million times where the
count of properties says so.
"""

import struct
from dataclasses import dataclass, field

from services.intake.mail.charsets import decoded

SIGNATURE = b"\x78\x9f\x3e\x22"
ATTRIBUTES_LIMIT = 2_000
PROPERTIES_LIMIT = 2_000

BODY, CODEPAGE, MESSAGE_PROPERTIES = 0x0002800C, 0x00069007, 0x00069003
FILE_BEGINS, FILE_TITLE, FILE_DATA, FILE_PROPERTIES = 0x00069002, 0x00018010, 0x0006800F, 0x00069005
PLAIN, HTML, LONG_NAME = 0x1000, 0x1013, 0x3707
STRING8, UNICODE = 0x001E, 0x001F
FIXED = {
    0x01: 0,
    0x02: 4,
    0x03: 4,
    0x04: 4,
    0x0A: 4,
    0x0B: 4,
    0x05: 8,
    0x06: 8,
    0x07: 8,
    0x14: 8,
    0x40: 8,
    0x48: 16,
}


@dataclass(slots=True)
class Tnef:
    """`files` are pairs of name and bytes. `whole` is false where the data broke off or was too much."""

    text: str = ""
    html: str = ""
    files: list[tuple[str, bytes]] = field(default_factory=list)
    whole: bool = True


def read_tnef(data: bytes) -> Tnef:
    """As far as it can be read. Never raises."""
    found = Tnef()
    if not data.startswith(SIGNATURE):
        found.whole = False
        return found
    charset, offset = "cp1252", 6
    for _ in range(ATTRIBUTES_LIMIT):
        if offset + 9 > len(data):
            break
        _, name, length = struct.unpack_from("<BII", data, offset)
        value = data[offset + 9 : offset + 9 + length]
        found.whole = found.whole and len(value) == length
        offset += length + 11
        if name == CODEPAGE and len(value) >= 4:
            charset = f"cp{int.from_bytes(value[:4], 'little')}"
        elif name == BODY:
            found.text = decoded(value.rstrip(b"\0"), charset)
        elif name == MESSAGE_PROPERTIES:
            properties = _properties(value, charset)
            found.text = properties.get(PLAIN, found.text)
            found.html = properties.get(HTML, found.html)
        elif name == FILE_BEGINS:
            found.files.append(("", b""))
        elif found.files and name in (FILE_TITLE, FILE_DATA, FILE_PROPERTIES):
            title, content = found.files[-1]
            if name == FILE_TITLE:
                title = title or decoded(value.rstrip(b"\0"), charset)
            elif name == FILE_DATA:
                content = value
            else:
                title = _properties(value, charset).get(LONG_NAME, title)
            found.files[-1] = (title, content)
    else:
        found.whole = False
    return found


def _properties(data: bytes, charset: str) -> dict[int, str]:
    """The properties that are text or may be, by their identifiers, up to where they cannot be read."""
    found: dict[int, str] = {}
    try:
        offset = 4
        for _ in range(min(struct.unpack_from("<I", data)[0], PROPERTIES_LIMIT)):
            kind, name = struct.unpack_from("<HH", data, offset)
            offset += 4
            if name >= 0x8000:  # a named property: its set, and its number or name
                by_name, number = struct.unpack_from("<II", data, offset + 16)
                offset += 24 + (_padded(number) if by_name else 0)
            several, kind = bool(kind & 0x1000), kind & 0xEFFF
            if kind in FIXED:
                count = struct.unpack_from("<I", data, offset)[0] if several else 1
                offset += FIXED[kind] * count + (4 if several else 0)
                continue
            count = struct.unpack_from("<I", data, offset)[0]
            offset += 4
            for _ in range(min(count, PROPERTIES_LIMIT)):
                length = struct.unpack_from("<I", data, offset)[0]
                value = data[offset + 4 : offset + 4 + length]
                offset += 4 + _padded(length)
                if name in (PLAIN, HTML, LONG_NAME):
                    found[name] = decoded(value, "utf-16-le" if kind == UNICODE else charset).rstrip("\0")
    except struct.error:
        pass
    return found


def _padded(length: int) -> int:
    return length + -length % 4
