"""What came attached: a name that is safe to show and save, what the bytes really are, and what makes it unsafe.

Nothing is unpacked or run; archives are named as such. The bytes stay in the raw message.
"""

import re
import unicodedata
from dataclasses import dataclass
from hashlib import sha256
from mimetypes import guess_extension

import puremagic

from services.intake.mail.headers import BIDI, cleaned

NAME_LIMIT = 150
SNIFFED = 64 * 1024
"""Bytes at the beginning that are looked at to tell the type."""
SEARCHED = 8 * 1024 * 1024
"""Bytes that are searched for macros and scripts."""

UNSAVABLE = re.compile(r'[<>:"|?*\x00-\x1f]')
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
KNOWN = re.compile(
    r"\.(pdf|docx?|xlsx?|pptx?|rtf|txt|csv|jpe?g|png|gif|html?|zip|od[tsp])[\s._]*\.[^.]+$", re.IGNORECASE
)

EXTENSIONS = {
    "a program": "exe com scr pif cpl msi msp msix appx jar app apk deb rpm dll sys ocx xll gadget",
    "a script": "bat cmd js jse mjs vb vbs vbe wsf wsh wsc ps1 psm1 ps1xml hta sct reg inf sh bash csh py pyw pl php"
    " applescript scpt",
    "a shortcut that can start programs": "lnk url scf desktop settingcontent-ms library-ms search-ms appref-ms",
    "an Office file with macros": "docm dotm xlsm xltm xlsb xlam pptm potm ppam ppsm sldm",
    "a disk image": "iso img vhd vhdx dmg udf",
    "a page that can run scripts": "html htm xhtml shtml mht mhtml svg xht",
    "a container known to carry programs": "one chm hlp",
    "an archive, and was not looked into": "zip rar 7z gz tgz bz2 xz tar cab ace arj lzh z zst",
}
BY_EXTENSION = {ending: reason for reason, endings in EXTENSIONS.items() for ending in endings.split()}
ARCHIVE = BY_EXTENSION["zip"]

EXECUTABLE = "application/x-executable"
MAGIC = (
    (b"MZ", EXECUTABLE, "a program"),
    (b"\x7fELF", EXECUTABLE, "a program"),
    (b"\xfe\xed\xfa\xce", EXECUTABLE, "a program"),
    (b"\xfe\xed\xfa\xcf", EXECUTABLE, "a program"),
    (b"\xce\xfa\xed\xfe", EXECUTABLE, "a program"),
    (b"\xcf\xfa\xed\xfe", EXECUTABLE, "a program"),
    (b"\xca\xfe\xba\xbe", EXECUTABLE, "a program"),
    (b"#!", "text/x-script", "a script"),
    (b"L\0\0\0\x01\x14\x02\0", "application/x-ms-shortcut", "a shortcut that can start programs"),
    (b"ITSF", "application/vnd.ms-htmlhelp", "a container known to carry programs"),
    (b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d", "application/onenote", "a container known to carry programs"),
    (b"Rar!\x1a\x07", "application/vnd.rar", ARCHIVE),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed", ARCHIVE),
    (b"\x1f\x8b", "application/gzip", ARCHIVE),
    (b"BZh", "application/x-bzip2", ARCHIVE),
    (b"\xfd7zXZ\0", "application/x-xz", ARCHIVE),
    (b"MSCF", "application/vnd.ms-cab-compressed", ARCHIVE),
)
ZIP, OLE, RTF, PDF = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"{\\rt", b"%PDF-"
OFFICE = "application/vnd.openxmlformats-officedocument."
IN_ZIP = (
    (b"word/", OFFICE + "wordprocessingml.document"),
    (b"xl/", OFFICE + "spreadsheetml.sheet"),
    (b"ppt/", OFFICE + "presentationml.presentation"),
)
PAGE = re.compile(rb"\s*(?:<\?xml[^>]{0,200}>\s*)?<(?:!doctype html|html|svg|script|body)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that came with a message. Its bytes stay in the raw message and are never unpacked.

    `name` is cleaned for showing and saving; `media_type` is what the bytes are, `claimed_type` what the
    sender said; `size` is in bytes, decoded. `danger` says why opening it would be unsafe, or nothing.
    """

    name: str
    media_type: str
    claimed_type: str
    size: int
    sha256: str
    danger: str = ""


def attachment(sent_name: str, claimed_type: str, data: bytes, number: int) -> Attachment:
    """`number` names what has no name."""
    media_type, reasons = _sniffed(data, claimed_type)
    name = clean_name(sent_name) or f"attachment-{number}{guess_extension(media_type) or ''}"
    ending = name.rpartition(".")[2].lower() if "." in name else ""
    if (reason := BY_EXTENSION.get(ending)) and reason not in reasons:
        reasons.append(reason)
    if reasons and KNOWN.search(name):
        reasons.append("its name pretends to be another type")
    if BIDI.search(sent_name):
        reasons.append("its name is written to be misread")
    return Attachment(
        name=name,
        media_type=media_type,
        claimed_type=cleaned(claimed_type)[:100],
        size=len(data),
        sha256=sha256(data).hexdigest(),
        danger="; ".join(reasons),
    )


def clean_name(sent: str) -> str:
    """A bare file name: no path, no control or invisible character, nothing a file system or page trips over."""
    name = unicodedata.normalize("NFC", cleaned(sent[:2_000]))
    name = "".join(character for character in name if unicodedata.category(character) != "Cf")
    name = UNSAVABLE.sub("_", re.split(r"[/\\]", name)[-1]).strip(" .")
    if RESERVED.fullmatch(name):
        name = f"_{name}"
    if len(name) > NAME_LIMIT:
        stem, dot, ending = name.rpartition(".")
        name = f"{stem[: NAME_LIMIT - 20]}{dot}{ending}" if dot and len(ending) < 20 else name[:NAME_LIMIT]
    return name


def _sniffed(data: bytes, claimed: str) -> tuple[str, list[str]]:
    """The type by the bytes, and what about them is dangerous."""
    for magic, kind, reason in MAGIC:
        if data.startswith(magic):
            return kind, [reason]
    if data.startswith(ZIP):
        return _zip(data)
    if data.startswith(OLE):
        return _claimed_or(claimed, "application/x-ole-storage"), _macros(data)
    return _document(data) or (_plain(data, claimed), [])


def _document(data: bytes) -> tuple[str, list[str]] | None:
    if data.startswith(RTF):
        return "application/rtf", ["it carries an embedded object"] * (b"\\objdata" in data[:SEARCHED])
    if PDF in data[:1024]:
        return "application/pdf", _pdf(data[:SEARCHED])
    if data[32_769:32_774] == b"CD001" or data[-512:].startswith((b"koly", b"conectix")):
        return "application/x-disk-image", ["a disk image"]
    return ("text/html", ["a page that can run scripts"]) if PAGE.match(data[:1024]) else None


def _plain(data: bytes, claimed: str) -> str:
    if _is_text(data):
        return claimed if claimed.startswith("text/") else "text/plain"
    try:
        return puremagic.from_string(data[:SNIFFED], mime=True) or "application/octet-stream"
    except (puremagic.PureError, ValueError):
        return "application/octet-stream"


def _zip(data: bytes) -> tuple[str, list[str]]:
    """Tells an Office file from an archive by the names that its listing holds."""
    names = data[:SNIFFED] + data[-SNIFFED:]
    if data[30:38] == b"mimetype" and data[38:].startswith(b"application/"):
        kind = re.split(rb"[^\w./+-]", data[38:130])[0].partition(b"PK")[0].decode("ascii", "replace")
        return kind, ["it holds macros"] if b"Basic/" in names else []
    if b"[Content_Types].xml" in names:
        kind = next((kind for sign, kind in IN_ZIP if sign in names), "application/zip")
        return kind, ["it holds macros"] if b"vbaProject.bin" in names else []
    if b"META-INF/MANIFEST.MF" in names or b"AndroidManifest.xml" in names:
        return "application/java-archive", ["a program"]
    return "application/zip", [ARCHIVE + (" (it is encrypted)" if data[6:7] and data[6] & 1 else "")]


def _macros(data: bytes) -> list[str]:
    searched = data[:SEARCHED]
    signs = ("_VBA_PROJECT", "EncryptedPackage")
    macros, encrypted = (sign.encode("utf-16-le") in searched for sign in signs)
    return ["it holds macros"] * macros + ["it is encrypted"] * encrypted


def _pdf(data: bytes) -> list[str]:
    runs = any(sign in data for sign in (b"/JavaScript", b"/Launch", b"/JS ("))
    return ["it holds a script"] * runs + ["it is encrypted"] * (b"/Encrypt " in data)


def _is_text(data: bytes) -> bool:
    head = data[:SNIFFED]
    if b"\0" in head:
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4  # a character cut in two at the end
    return True


def _claimed_or(claimed: str, kind: str) -> str:
    return claimed if claimed.startswith("application/") and claimed != "application/octet-stream" else kind
