"""Reads the mails that the demo's mail server keeps.

python -m deploy.demo.mails               every mail, one line each
python -m deploy.demo.mails MSP-7F3K-2Q   all mails about one enquiry, whole
"""

import argparse
import sys
import unicodedata
from collections.abc import Iterator
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path

from deploy.demo.messages import LONDON
from deploy.demo.options import STATE


def mail_files(maildir: Path) -> list[Path]:
    """In the order of arrival. A reader moves what it has shown from `new` to `cur`."""
    files = [file for part in ("new", "cur") for file in (maildir / part).glob("*") if file.is_file()]
    return sorted(files, key=lambda file: (file.stat().st_mtime_ns, file.name))


def count_mails(maildir: Path) -> int:
    return len(mail_files(maildir))


def read(file: Path, *, headers_only: bool = False) -> EmailMessage:
    with file.open("rb") as stream:
        message = BytesParser(policy=policy.default).parse(stream, headersonly=headers_only)
    assert isinstance(message, EmailMessage)
    return message


def plain(text: str) -> str:
    """Without control characters: a stranger's words must not command the terminal."""
    return "".join(letter for letter in text if letter in "\n\t" or unicodedata.category(letter) != "Cc")


def written(message: EmailMessage) -> str:
    """When, in Europe/London."""
    date = getattr(message["Date"], "datetime", None)
    return f"{date.astimezone(LONDON):%a %-d %b %Y %H:%M:%S}" if date else "(no date)"


def whole(message: EmailMessage) -> Iterator[str]:
    yield f"Date: {written(message)}"
    for name in ("From", "To", "Subject", "In-Reply-To", "Auto-Submitted"):
        if message[name]:
            yield f"{name}: {message[name]}"
    body = message.get_body(preferencelist=("plain", "html"))
    yield ""
    yield body.get_content().rstrip() if body else "(no text)"
    for part in message.walk():
        if part.get_content_maintype() != "multipart" and part is not body:
            yield f"[also {part.get_content_type()} {part.get_filename() or ''}".rstrip() + "]"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.demo.mails", description="Shows the mails that the demo's mail server keeps."
    )
    parser.add_argument("reference", nargs="?", help="only mails with this in their subject, whole")
    parser.add_argument("--maildir", type=Path, default=STATE / "mail")
    given = parser.parse_args()
    shown = 0
    for file in mail_files(given.maildir):
        headers = read(file, headers_only=True)
        subject = str(headers["Subject"] or "")
        if given.reference is None:
            print(plain(f"{written(headers)}  {headers['To']!s:45.45}  {subject}"))
        elif given.reference.strip().upper() in subject.upper():
            print(plain("\n".join(whole(read(file)))), end=f"\n\n{'─' * 78}\n")
        else:
            continue
        shown += 1
    if not shown:
        print(f"{given.maildir} holds no such mail.", file=sys.stderr)
    return 0 if shown else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:  # `| head`
        sys.stderr.close()
