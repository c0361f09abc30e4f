"""How fast mail is read: messages and megabytes a second, over made mail of several kinds and over real mail.

.venv/bin/python -m tests.benchmarks.reading [--json FILE]
"""

import argparse
import json
from base64 import encodebytes
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from time import process_time
from typing import Any

from rich.console import Console
from rich.table import Table

from services.intake.mail import read
from tests.corpora.fetched import bounces, others

SECONDS = 1.0
"""CPU time given to each kind."""

PARAGRAPH = (
    "We run a council's libraries, and our staff would like to know whether we could become a mutual.\n"
)
SIGNATURE = "\nKind regards,\nJane Smith\nHead of Libraries\nTel: 01234 567890\n"
QUOTED = "\nOn Thu, 1 Feb 2018 at 10:00, Programme <enquiries@programme.example> wrote:\n\n" + (
    "> Thank you for your enquiry. What would help you most?\n" * 20
)


def made(text: str, html: str = "", file: bytes = b"") -> bytes:
    mail = EmailMessage()
    mail["From"] = "Jane Smith <jane@council.example>"
    mail["To"] = "enquiries@programme.example"
    mail["Subject"] = "Becoming a mutual"
    mail["Message-ID"] = "<benchmark@council.example>"
    mail.set_content(text)
    if html:
        mail.add_alternative(html, subtype="html")
    if file:
        mail.add_attachment(file, maintype="application", subtype="pdf", filename="plan.pdf")
    return mail.as_bytes()


def kinds() -> dict[str, list[bytes]]:
    """The messages of each row."""
    page = f"<html><body>{f'<p>{PARAGRAPH}</p>' * 200}</body></html>"
    return {
        "plain, 3 kB": [made(PARAGRAPH * 28 + SIGNATURE)],
        "a reply, 3 kB": [made(PARAGRAPH * 8 + SIGNATURE + QUOTED)],
        "plain and HTML, 40 kB": [made(PARAGRAPH * 200, page)],
        "HTML alone, 20 kB": [b"Subject: x\nContent-Type: text/html\n\n" + page.encode()],
        "with a file of 1 MB": [made(PARAGRAPH * 28, file=b"%PDF-1.4" + bytes(range(256)) * 4096)],
        "with a file of 18 MB": [
            b"Content-Type: application/pdf\nContent-Transfer-Encoding: base64\n\n"
            + encodebytes(b"%PDF-1.4" + bytes(range(256)) * 72_000)
        ],
        "real bounces (flufl.bounce)": [path.read_bytes() for path in bounces()],
        "real odd mail (mail-parser)": [path.read_bytes() for path in others()],
    }


def measure(
    seconds: float = SECONDS, say: Callable[[str], None] = lambda line: None
) -> dict[str, dict[str, Any]]:
    """For each kind: messages and megabytes a second of CPU, and the slowest message in milliseconds."""
    result: dict[str, dict[str, Any]] = {}
    for kind, messages in kinds().items():
        say(f"reading {kind}")
        count = size = 0
        slowest = 0.0
        began = process_time()
        while count < len(messages) or process_time() - began < seconds:
            raw = messages[count % len(messages)]
            started = process_time()
            read(raw)
            slowest = max(slowest, process_time() - started)
            count, size = count + 1, size + len(raw)
        spent = process_time() - began
        result[kind] = {
            "messages_per_second": round(count / spent, 1),
            "megabytes_per_second": round(size / spent / 1e6, 1),
            "milliseconds": round(spent / count * 1000, 3),
            "slowest_milliseconds": round(slowest * 1000, 1),
        }
    return result


def table(result: dict[str, dict[str, Any]]) -> Table:
    shown = Table("reading", "messages/s", "MB/s", "ms each", "slowest ms", title="Reading mail, one core")
    for kind, row in result.items():
        shown.add_row(kind, *(f"{value:,}" for value in row.values()))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.reading", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    given = parser.parse_args()
    console = Console()
    result = measure(say=lambda line: console.print(f"[dim]{line}[/dim]"))
    console.print(table(result))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
