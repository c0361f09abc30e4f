"""Turns bytes into text that every store and format can carry, whatever charset the sender claimed."""

import codecs
import re

# Codecs that are no charsets of mail: some take quadratic time, the others execute escapes.
REFUSED = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined"})

# What senders mean by what they say: each on the right is a superset of the one on the left.
MEANT = {"gb2312": "gb18030", "gbk": "gb18030", "euc_kr": "cp949", "shift_jis": "cp932", "big5": "big5hkscs"}

# Labels that are often put on UTF-8 or on Windows-1252, because they were some program's default.
LATIN = frozenset({"ascii", "iso8859-1", "cp1252", "latin_1"})

UNSTORABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
"""Control characters, and lone surrogates, which neither BSON nor JSON can hold."""


def decoded(data: bytes, charset: str = "") -> str:
    """`data` as text. The claimed `charset` is believed only where the bytes agree with it. Never raises."""
    if data.isascii() and not charset.lower().startswith(("utf-7", "utf-16", "utf-32", "iso-2022", "hz")):
        return data.decode("ascii")
    name = _codec(charset)
    if name in LATIN or not name or name == "utf-8":
        return _utf8_or_latin(data, claimed_utf8=name == "utf-8")
    try:
        return data.decode(name)
    except (ValueError, LookupError):
        return _utf8_or_latin(data) if _is_utf8(data) else data.decode(name, "replace")


def storable(text: str) -> str:
    """`text` without the characters that BSON, JSON or a page could not carry, and with bare line feeds."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return UNSTORABLE.sub("", text)


def _codec(charset: str) -> str:
    """The codec's name, or nothing where there is none to be used."""
    try:
        info = codecs.lookup(charset.strip("'\" \t"))
    except (LookupError, ValueError):
        return ""
    if info.name in REFUSED or not getattr(info, "_is_text_encoding", True):
        return ""
    return MEANT.get(info.name, info.name)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _utf8_or_latin(data: bytes, *, claimed_utf8: bool = False) -> str:
    """Text that decodes as UTF-8 is UTF-8: no other charset's text does so by chance."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        repaired = data.decode("utf-8", "replace")
    damaged = repaired.count("\ufffd")
    intact = sum(character > "\x7f" for character in repaired) - damaged
    # A few damaged characters among sound ones are UTF-8 that was cut; otherwise it was Windows-1252.
    if intact > damaged or (claimed_utf8 and intact == damaged and intact):
        return repaired
    return data.decode("cp1252", "replace")
