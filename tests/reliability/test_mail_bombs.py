"""Messages made to take a reader's time or memory: each is read within a second, and most of them in a tenth."""

import base64
import tracemalloc
from time import process_time

import pytest

from services.intake.mail import read

MB = 1024 * 1024
SECONDS = 2.0
"""Twice the bound: the machine that tests may be slow."""

FROM = b"From: Jane <jane@council.example>\nSubject: x\n"
BOUNCE = b"From: MAILER-DAEMON@mx.example\nReturn-Path: <>\nSubject: Undelivered Mail\n\n"
HTML = FROM + b"Content-Type: text/html\n\n"
MIXED = FROM + b"Content-Type: multipart/mixed; boundary=b\n\n"
TNEF = FROM + b"Content-Type: application/ms-tnef\n\n\x78\x9f\x3e\x22\x00\x00"


def file(encoding: bytes) -> bytes:
    return FROM + b"Content-Type: application/x\nContent-Transfer-Encoding: " + encoding + b"\n\n"


def nested(depth: int) -> bytes:
    return b"".join(
        b"--B%d\nContent-Type: multipart/mixed; boundary=B%d\n\n" % (at, at + 1) for at in range(depth)
    )


BOMBS = {
    "one line": lambda: FROM + b"\n" + b"x" * 20 * MB,
    "empty lines": lambda: FROM + b"\n" + b"\n" * 20 * MB,
    "no header": lambda: b"x" * 20 * MB,
    "header alone": lambda: b"A: b\n" * 4 * MB,
    "one field": lambda: b"Subject: " + b"x" * 20 * MB,
    "folded field": lambda: b"Subject: x\n" + b" y\n" * 6 * MB,
    "many senders": lambda: b"From: a@b.example\n" * MB + b"\nx",
    "parentheses": lambda: b"From: " + b"(" * 10 * MB + b"\n\nx",
    "references": lambda: b"References: " + b"<a@b> " * 3 * MB + b"\n\nx",
    "deep parts": lambda: FROM + b"Content-Type: multipart/mixed; boundary=B0\n\n" + nested(90) + b"x" * 15 * MB,
    "deep messages": lambda: FROM + b"Content-Type: message/rfc822\n\n" * 300_000,
    "a million parts": lambda: MIXED + b"--b\n\n" * MB,
    "nearly boundaries": lambda: MIXED + b"--bx\n" * 3 * MB,
    "parts of headers": lambda: MIXED + (b"--b\n" + b"A: b\n" * 9_000 + b"\nx\n") * 400,
    "parts of html": lambda: MIXED + (b"--b\nContent-Type: text/html\n\n" + b"<p>" * 15_000 + b"\n") * 400,
    "parts of parts": lambda: MIXED + (b"--b\nContent-Type: multipart/mixed\n\n" + b"--\n" * 15_000 + b"\n") * 400,
    "parameters": lambda: FROM + b"Content-Type: text/plain" + b"; a*1=x" * 5_000 + b'; b="' * 5_000 + b"\n\nx",
    "base64 junk": lambda: file(b"base64") + b"=A==!A" * 3 * MB,
    "quoted-printable junk": lambda: file(b"quoted-printable") + b"=" * 20 * MB,
    "uuencoded lines": lambda: file(b"x-uuencode") + b"begin 644 x\n" + b"!\n" * 8 * MB,
    "tags": lambda: HTML + b"<div>" * MB,
    "quotations": lambda: HTML + b"<blockquote>" * 40_000 + b"<br>x" * 100_000,
    "attributes": lambda: HTML + b"<div class=class=class=class=class=class=class=>" * 20_000,
    "preformatted": lambda: HTML + b"<pre>" + b"\n" * MB,
    "entities": lambda: HTML + b"&#x;&amp" * 100_000,
    "flowed": lambda: FROM + b"Content-Type: text/plain; format=flowed\n\n" + b"> x \n>> y \n" * 90_000,
    "rules": lambda: FROM + b"\n" + b"______\n" * 28_000,
    "devices": lambda: FROM + b"\n" + b"Sent from my iPhone\n" * 10_000,
    "attributions": lambda: FROM + b"\n" + b"On 1/2/2018 12:00 a@b.example\n wrote:\n" * 5_000,
    "copied headers": lambda: FROM + b"\n" + b"From:\n" * 30_000,
    "addresses": lambda: FROM + b"\n" + (b"a@" * 290 + b":\n") * 330,
    "quoted lines": lambda: FROM + b"\n" + b"> a\nb:\n" * 28_000,
    "tnef properties": lambda: TNEF + b"\x01\x03\x90\x06\x00\xff\xff\xff\x7f" + b"\xff" * 4 * MB,
    "tnef attributes": lambda: TNEF + b"\0" * 20 * MB,
    "bounce of words": lambda: BOUNCE + b"the following recipient was not " * 300_000,
    "bounce of addresses": lambda: BOUNCE + b"recipient a@b.example " * 300_000,
    "bounce of lines": lambda: BOUNCE + (b"a@" * 99 + b"\n") * 50_000,
    "bounce of nothing": lambda: BOUNCE + b"\n" * 50_000 + b" \t" * MB,
    "bounce of dashes": lambda: BOUNCE + (b"-" * 300 + b"\n") * 5_000,
    "bounce of brackets": lambda: BOUNCE + b"Hi. This is the\n\n" + b"<a@b.example>:\n" * MB,
    "reports": lambda: FROM + b"Content-Type: multipart/report; boundary=b\n\n"
    + (b"--b\nContent-Type: message/delivery-status\n\n" + b"Final-Recipient: rfc822;a@b.c\n\n" * 5_000) * 90,
    "blank reports": lambda: FROM + b"Content-Type: multipart/report; boundary=b\n\n"
    b"--b\nContent-Type: message/delivery-status\n\n" + b"\n \n" * 500_000,
    "encoded words": lambda: b"Subject: " + b"=?utf-8?q?a?= " * 700 + b"\n\nx",
    "japanese escapes": lambda: FROM + b"Content-Type: text/plain; charset=iso-2022-jp\n\n" + b"\x1b$B" * 300_000,
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_read_in_time(bomb):
    raw = BOMBS[bomb]()
    started = process_time()
    mail = read(raw)
    assert process_time() - started < SECONDS
    assert mail.sender.address


def test_a_file_of_25_mb_is_hashed_in_time_and_in_little_memory():
    raw = file(b"base64") + base64.encodebytes(bytes(range(256)) * 72_000)
    started = process_time()
    tracemalloc.start()
    mail = read(raw)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert process_time() - started < SECONDS
    assert mail.attachments[0].size == 256 * 72_000
    assert peak < 5 * len(raw)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (FROM + b"Content-Type: application/pkcs7-mime; name=smime.p7m\n\nx", "it is encrypted"),
        (
            FROM
            + b"Content-Type: multipart/encrypted; boundary=b\n\n--b\nContent-Type: application/pgp-encrypted\n\n"
            b"Version: 1\n--b\nContent-Type: application/octet-stream; name=encrypted.asc\n\nx\n--b--\n",
            "it is encrypted",
        ),
        (FROM + b"Content-Type: message/rfc822\n\n" * 300, "its parts are nested too deep"),
    ],
)
def test_what_nothing_can_be_read_of_is_held_for_somebody(raw, problem):
    mail = read(raw)
    assert mail.unreadable
    assert problem in (mail.parse_error or "")


@pytest.mark.parametrize(
    "raw",
    [
        FROM + b"\n",
        FROM,
        b"",
        FROM + b"\n\n \n",
        HTML + b"<p></p>",
        MIXED + b"--b\n\n\n--b--\n",
        MIXED + b"--b\nContent-Type: image/png\n\nx\n--b--\n",
    ],
)
def test_an_empty_mail_is_just_that(raw):
    mail = read(raw)
    assert not mail.unreadable
    assert mail.parse_error is None


def test_a_boundary_that_is_missing_is_found():
    parts = b"--x1\nContent-Type: text/plain\n\nhello\n--x1\nContent-Type: text/html\n\n<p>x\n--x1--\n"
    raw = FROM + b"Content-Type: multipart/mixed\n\n" + parts
    assert read(raw).text == "hello\n\nx"


def test_text_behind_what_is_no_header_is_not_lost():
    assert "we want advice" in read(b"we want advice on mutuals").text
    assert "we want advice" in read(MIXED + b"--b\nwe want advice\n--b--\n").text
