"""The demo's enquiries as the RFC 5322 messages that different mail programs would have made of them.

Everything about a message follows from the enquiry's id and the run, down to the boundary of its parts: the
same run makes the same message again, which intake then recognises.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from hashlib import sha256
from html import escape
from pathlib import Path
from zoneinfo import ZoneInfo

ENQUIRIES = Path(__file__).with_name("enquiries-dev.jsonl")
LONDON = ZoneInfo("Europe/London")
OPENING = datetime(2018, 9, 24, 9, 0, tzinfo=LONDON)
"""When the programme's clock starts: a Monday morning in the second application window."""
WEEKEND = timedelta(hours=63)
"""The mails were written from Friday evening on, and wait at the door when it opens."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One message as it goes over the wire, with its envelope."""

    message_id: str
    sender: str
    content: bytes


def letters(run: str, to: str, source: Path = ENQUIRIES) -> list[Letter]:
    """A message for each enquiry of `source` (JSON lines), in order; `run` tells demos' messages apart."""
    enquiries = [json.loads(line) for line in source.read_text().splitlines()]
    return [
        letter(enquiry, run, to, place=number / len(enquiries)) for number, enquiry in enumerate(enquiries)
    ]


def letter(enquiry: dict[str, str], run: str, to: str, *, place: float) -> Letter:
    """`place`, from 0 to 1, is when in the weekend it was written."""
    seed = sha256(f"{run}/{enquiry['id']}".encode()).digest()
    user, _, domain = enquiry["from_address"].rpartition("@")
    message_id = f"<{enquiry['id']}.{seed.hex()[:16]}@{domain}>"
    message = EmailMessage(policy=SMTP)
    message["Message-ID"] = message_id
    message["Date"] = format_datetime(_written(place, seed))
    message["From"] = Address(enquiry["from_name"], user, domain)
    message["To"] = to
    message["Subject"] = enquiry["subject"]
    # Lines longer than 78 characters or letters beyond ASCII become quoted-printable, as mail programs do it.
    message.set_content(enquiry["body"])
    if seed[0] % 3 == 0:  # about a third of the mail programs add an HTML version
        message.add_alternative(_html(enquiry["body"]), subtype="html")
        message.set_boundary(f"=_{seed.hex()[16:48]}")
    return Letter(message_id, enquiry["from_address"], message.as_bytes())


def _written(place: float, seed: bytes) -> datetime:
    """At the latest two minutes before the clock starts."""
    last = OPENING - timedelta(minutes=2)
    jitter = timedelta(seconds=int.from_bytes(seed[1:3], "big") % 900)
    return (last - WEEKEND * (1 - place) - jitter).replace(microsecond=0)


def _html(body: str) -> str:
    paragraphs = (escape(part).replace("\n", "<br>\n") for part in body.split("\n\n"))
    return "<html><body>\n" + "\n".join(f"<p>{part}</p>" for part in paragraphs) + "\n</body></html>\n"
