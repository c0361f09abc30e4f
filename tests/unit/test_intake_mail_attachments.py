"""What comes attached: safe names, true types, what is dangerous, and Outlook's winmail.dat."""

import io
import struct
import zipfile
from email.message import EmailMessage
from hashlib import sha256

import pytest

from services.intake.mail import attachment_bytes, read
from services.intake.mail.attachments import attachment, clean_name
from services.intake.mail.tnef import (
    BODY,
    FILE_BEGINS,
    FILE_DATA,
    FILE_PROPERTIES,
    FILE_TITLE,
    MESSAGE_PROPERTIES,
)

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
OFFICE = "application/vnd.openxmlformats-officedocument."


def zipped(*names: str, **options: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in names:
            archive.writestr(name, options.get("content", b"x"))
    return made.getvalue()


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("plan.pdf", "plan.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\jane\\plan.doc", "plan.doc"),
        ("/tmp/", ""),
        ("..", ""),
        ("a\x00b\r\nBcc: x@y.example.txt", "ab Bcc_ x@y.example.txt"),
        ("\u202egpj.exe", "gpj.exe"),
        ("zero\u200bwidth.pdf", "zerowidth.pdf"),
        ('a<b>|"c"?.txt', "a_b___c__.txt"),
        ("CON", "_CON"),
        ("aux.txt", "_aux.txt"),
        ("x" * 400 + ".docx", "x" * 130 + ".docx"),
        (" plan.pdf . ", "plan.pdf"),
        ("cafe\u0301.pdf", "café.pdf"),
    ],
)
def test_a_name_is_bare_and_can_be_shown_and_saved(sent, name):
    assert clean_name(sent) == name


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ('Content-Disposition: attachment; filename="plan.pdf"', "plan.pdf"),
        ("Content-Disposition: attachment; filename=plan.pdf", "plan.pdf"),
        ("Content-Disposition: attachment; filename*=utf-8''caf%C3%A9.pdf", "café.pdf"),
        (
            "Content-Disposition: attachment; filename*0*=utf-8''caf%C3; filename*1*=%A9; filename*2=.pdf",
            "café.pdf",
        ),
        ('Content-Disposition: attachment; filename="=?utf-8?q?caf=C3=A9?=.pdf"', "café.pdf"),
        ('Content-Type: application/pdf; name="=?iso-8859-1?q?caf=E9=2Epdf?="', "café.pdf"),
        ('Content-Disposition: attachment; filename="a\\"b.pdf"', "a_b.pdf"),
        ("Content-Disposition: attachment; filename*=nonsense", "nonsense"),
        ("Content-Disposition: attachment; filename*9*=x'%", "x'%"),
        ("Content-Disposition: attachment", "attachment-1.txt"),
    ],
)
def test_a_name_is_found_however_it_was_encoded(field, name):
    raw = f"Content-Type: multipart/mixed; boundary=b\n\n--b\n\ntext\n--b\n{field}\n\nfile\n--b--\n".encode()
    assert [attached.name for attached in read(raw).attachments] == [name]


@pytest.mark.parametrize(
    ("name", "data", "media_type", "danger"),
    [
        ("plan.pdf", b"%PDF-1.4\n1 0 obj", "application/pdf", ""),
        ("plan.txt", b"we would like", "text/plain", ""),
        ("photo.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 20, "image/png", ""),
        ("noise.bin", b"\x00\xff\x80" * 9, "application/octet-stream", ""),
        (
            "plan.docx",
            zipped("[Content_Types].xml", "word/document.xml"),
            OFFICE + "wordprocessingml.document",
            "",
        ),
        ("sums.xlsx", zipped("[Content_Types].xml", "xl/workbook.xml"), OFFICE + "spreadsheetml.sheet", ""),
        (
            "plan.odt",
            zipped("mimetype", content=b"application/vnd.oasis.opendocument.text"),
            "application/vnd.oasis.opendocument.text",
            "",
        ),
        ("plan.pdf", b"MZ\x90\x00", "application/x-executable", "a program"),
        (
            "plan.docx",
            zipped("[Content_Types].xml", "word/vbaProject.bin"),
            OFFICE + "wordprocessingml.document",
            "macros",
        ),
        ("plan.doc", OLE + "_VBA_PROJECT".encode("utf-16-le"), "application/x-ole-storage", "macros"),
        (
            "plan.xlsm",
            zipped("[Content_Types].xml", "xl/workbook.xml"),
            OFFICE + "spreadsheetml.sheet",
            "macros",
        ),
        ("files.zip", zipped("a.txt"), "application/zip", "archive"),
        ("files.zip", b"PK\x03\x04\x14\x00\x01\x00" + b"\0" * 30, "application/zip", "encrypted"),
        ("files.7z", b"7z\xbc\xaf\x27\x1c" + b"\0" * 20, "application/x-7z-compressed", "archive"),
        ("run", b"#!/bin/sh\n", "text/x-script", "script"),
        ("a.js", b"alert(1)", "text/plain", "script"),
        ("a.lnk", b"L\0\0\0\x01\x14\x02\0", "application/x-ms-shortcut", "shortcut"),
        ("page.txt", b"<!DOCTYPE html><html>", "text/html", "page"),
        ("disk.bin", b"\0" * 32_769 + b"CD001", "application/x-disk-image", "disk image"),
        ("plan.pdf.exe", b"x", "text/plain", "pretends"),
        ("plan.pdf      .scr", b"x", "text/plain", "pretends"),
        ("\u202efdp.exe", b"x", "text/plain", "misread"),
        ("form.pdf", b"%PDF-1.4 /JavaScript", "application/pdf", "script"),
        ("letter.rtf", b"{\\rtf1 \\objdata 00}", "application/rtf", "embedded"),
    ],
)
def test_a_file_is_what_its_bytes_are_and_dangers_are_named(name, data, media_type, danger):
    found = attachment(name, "application/octet-stream", data, 1)
    assert found.media_type == media_type
    assert danger in found.danger
    assert bool(danger) == bool(found.danger)
    assert (found.size, found.sha256) == (len(data), sha256(data).hexdigest())


def test_files_are_listed_in_order_and_had_again_by_their_place():
    mail = EmailMessage()
    mail.set_content("see attached")
    mail.add_alternative("<p>see attached <img src='cid:x'>", subtype="html")
    mail.get_payload()[1].add_related(b"\x89PNG\r\n\x1a\n", "image", "png", cid="<x>")
    mail.add_attachment(b"%PDF-1.4", maintype="application", subtype="pdf", filename="a.pdf")
    mail.add_attachment("a,b\n1,2\n", subtype="csv", filename="b.csv")
    raw = mail.as_bytes()
    found = read(raw)
    assert found.text.strip() == "see attached"
    assert [attached.name for attached in found.attachments] == ["attachment-1.png", "a.pdf", "b.csv"]
    assert [attached.media_type for attached in found.attachments] == [
        "image/png",
        "application/pdf",
        "text/csv",
    ]
    assert [attachment_bytes(raw, at) for at in range(-1, 4)] == [
        None,
        b"\x89PNG\r\n\x1a\n",
        b"%PDF-1.4",
        b"a,b\n1,2\n",
        None,
    ]


def test_files_of_a_forwarded_message_are_listed():
    inner = EmailMessage()
    inner.set_content("the enquiry")
    inner.add_attachment(b"%PDF-1.4", maintype="application", subtype="pdf", filename="plan.pdf")
    mail = EmailMessage()
    mail.set_content("see below")
    mail.add_attachment(inner)
    assert [attached.name for attached in read(mail.as_bytes()).attachments] == ["plan.pdf"]


def test_more_files_than_anybody_sends_are_said_to_be_too_many():
    part = b"--b\nContent-Disposition: attachment; filename=a.txt\n\nx\n"
    mail = read(b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nhello\n" + part * 150 + b"--b--\n")
    assert len(mail.attachments) == 100
    assert mail.parse_error == "it has more than 100 attachments"
    assert mail.text == "hello"


# Outlook


def attribute(name: int, data: bytes) -> bytes:
    return struct.pack("<BII", 1, name, len(data)) + data + b"\0\0"


def properties(*pairs: tuple[int, int, bytes]) -> bytes:
    packed = struct.pack("<I", len(pairs))
    for kind, name, value in pairs:
        packed += struct.pack("<HHII", kind, name, 1, len(value)) + value + b"\0" * (-len(value) % 4)
    return packed


def winmail(*attributes: bytes) -> bytes:
    data = b"\x78\x9f\x3e\x22\x01\x00" + b"".join(attributes)
    return b"Content-Type: application/ms-tnef\nContent-Transfer-Encoding: 8bit\n\n" + data


def test_outlooks_text_and_files_are_read():
    raw = winmail(
        attribute(BODY, b"we would like advice\0"),
        attribute(FILE_BEGINS, b"\0" * 14),
        attribute(FILE_TITLE, b"PLAN~1.PDF\0"),
        attribute(FILE_DATA, b"%PDF-1.4"),
        attribute(FILE_PROPERTIES, properties((0x1F, 0x3707, "plän.pdf\0".encode("utf-16-le")))),
    )
    mail = read(raw)
    assert mail.text == "we would like advice"
    assert [(attached.name, attached.media_type) for attached in mail.attachments] == [
        ("plän.pdf", "application/pdf")
    ]
    assert attachment_bytes(raw, 0) == b"%PDF-1.4"


def test_outlooks_html_is_read_where_it_has_no_text():
    assert (
        read(winmail(attribute(MESSAGE_PROPERTIES, properties((0x102, 0x1013, b"<p>advice"))))).text
        == "advice"
    )


def test_winmail_that_breaks_off_is_said_to():
    mail = read(winmail(attribute(BODY, b"we would like advice")[:-6]))
    assert mail.text == "we would like ad"
    assert mail.parse_error == "one part: winmail.dat cannot be read to its end"
    assert not mail.unreadable


def test_winmail_with_nothing_readable_is_held_for_somebody():
    mail = read(b"From: a@b.example\n" + winmail(b"\xff" * 40))
    assert mail.unreadable
    assert mail.parse_error
