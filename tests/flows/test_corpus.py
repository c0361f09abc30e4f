"""`make corpus`: every file of a folder, whatever it is, ends in the report, and the services live through it."""

import asyncio
import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from deploy.corpus import as_message, run, send_through
from deploy.local.servers import Tenant

MAIL = b"From: jane@council.example\r\nSubject: Advice\r\nMessage-ID: <a@council.example>\r\n\r\nDear all\r\n"
FILES = {
    "plain.eml": MAIL,
    "again/with-envelope.eml": b"From jane Mon Sep 24 09:00:00 2018\n" + MAIL,
    "body.html": b"<html><body><p>We are <b>a mutual</b></p></body></html>",
    "body.txt": "Café: we would like to become a mutual.\n".encode("latin-1"),
    "empty": b"",
    "noise": bytes(range(256)) * 40,
    "no-end.eml": b'Content-Type: multipart/mixed; boundary="x"\r\nFrom: a@b.example\r\n\r\n--x\r\n' * 200,
    "deep.eml": b"".join(
        b'From: a@b.example\nContent-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (n, n)
        for n in range(300)
    ),
    "too large": b"From: a@b.example\r\n\r\n" + b"x" * 26 * 1024 * 1024,
}


@pytest.mark.parametrize(
    ("content", "wrapped"),
    [
        (MAIL, False),
        (b"\r\n" + MAIL, False),
        (b"a broken first line\r\n" + MAIL.replace(b"\r\n\r\n", b"\r\nDate: x\r\n\r\n"), False),
        (b"X-Mailer: x\r\n\r\n", False),
        (b"Hello: this is not a header\r\n\r\nFrom: me", True),
        (b"On Monday you wrote:\r\nFrom: me\r\n\r\n", True),
        (b"<p>Hello</p>", True),
        (b"", True),
    ],
)
def test_only_what_has_no_header_block_is_wrapped(content: bytes, wrapped: bool) -> None:
    made = as_message(content, "a/näme\udcff\r\nBcc: x")
    assert (made != content) == wrapped
    assert made.endswith(content)
    assert b"\r\nBcc" not in made


async def test_every_file_of_a_folder_ends_in_the_report(tenant: Tenant, tmp_path: Path) -> None:
    for name, content in FILES.items():
        file = tmp_path / "files" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    report = tmp_path / "report.jsonl"
    console = Console(file=StringIO(), width=120)
    problems = await asyncio.to_thread(send_through, tenant, tmp_path / "files", report, tmp_path, console)
    assert problems == []
    lines = {line["path"]: line for line in map(json.loads, report.read_text().splitlines())}
    assert lines.keys() == FILES.keys()
    outcomes = {path: line["outcome"] for path, line in lines.items()}
    assert outcomes.pop("too large") == "refused"
    assert "duplicate" in (outcomes.pop("plain.eml"), outcomes.pop("again/with-envelope.eml"))
    assert set(outcomes.values()) <= {"enquiry", "held"}
    assert "a mutual" in lines["body.html"]["whole_text"]
    assert "Café" in lines["body.txt"]["whole_text"]
    assert "9 files" in console.file.getvalue()


def test_a_folder_without_files_is_said_to_be_empty(tmp_path: Path) -> None:
    assert run(tmp_path, tmp_path / "report", Console(quiet=True)) == [f"there is no file in {tmp_path}"]
