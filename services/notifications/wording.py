"""How we write: dates and lists as people say them, and strangers' text made safe to stand in our
sentences."""

import re
import unicodedata
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from shared.contracts.cloudevents import Person

LONDON: Final = ZoneInfo("Europe/London")

# Joiners are invisible too, but Persian, Hindi and family emoji are not written without them.
_JOINERS = "\u200c\u200d"


# What may stand in a greeting or beside an address. A name is whatever the writer of a mail put in its From
# field, and our answer goes to whatever address stood beside it: without this check anybody could have us
# send their advertisement to their victim.
_NAME = re.compile(r"[^\W\d_][^\d@:/\\<>\"_#%$&*+=?!\[\]{}|^~`;]{0,59}")
_ADVERTISING = re.compile(r"\bwww\b|\w{2}\.\w{2}", re.IGNORECASE)


def clean_line(text: str, limit: int) -> str:
    """`text` as one line of at most `limit` characters that cannot break out of a header, a log or a page
    layout.

    Line breaks, tabs and control characters become spaces; invisible marks that turn text round are dropped.
    """
    if not text.isprintable():
        text = "".join(_visible(character) for character in text[: 4 * limit])
    text = " ".join(text[: 4 * limit].split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _visible(character: str) -> str:
    if character.isprintable() or character in _JOINERS:
        return character
    match unicodedata.category(character):
        case "Cf":
            return ""
        case "Cs" | "Co" | "Cn":
            return "\ufffd"
        case _:
            return " "


def presentable_name(name: str) -> str:
    """`name` if it reads like somebody's name, otherwise nothing."""
    if not name:
        return ""
    cleaned = clean_line(name, 61)
    return cleaned if _NAME.fullmatch(cleaned) and not _ADVERTISING.search(cleaned) else ""


def spoken(slug: str) -> str:
    """`human-resources` → `human resources`."""
    return slug.replace("-", " ")


def listed(slugs: tuple[str, ...]) -> str:
    """`("legal", "financial", "marketing")` → `legal, financial and marketing`."""
    words = [spoken(slug) for slug in slugs]
    return " and ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)


def uk_time(instant: datetime) -> str:
    """An instant as people in Britain say it: `Tuesday 25 September 2018 at 10am`."""
    return said(instant.astimezone(LONDON))


def said(local: datetime) -> str:
    """A wall time in the manner of the GOV.UK style guide: 10am, 10:30am, midday, midnight."""
    hour = (
        local.strftime("%I").lstrip("0")
        + (f":{local:%M}" if local.minute else "")
        + local.strftime("%p").lower()
    )
    hour = {"12am": "midnight", "12pm": "midday"}.get(hour, hour)
    return f"{local:%A} {local.day} {local:%B} {local.year} at {hour}"


def person_line(person: Person) -> str:
    """`Rukhsana Beg (r.beg@turningcorner.example)`."""
    name = clean_line(person.name, 100)
    address = clean_line(person.address, 320)
    return f"{name} ({address})" if name else address


def plain_line(text: str) -> str:
    """One line of a stranger's, such as a subject, so that it cannot pretend to be the next line of ours."""
    return clean_line(text, 1_000)


_UNREADABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LINE_END = re.compile(r"\r\n?|\x85")


def plain_body(text: str) -> str:
    """A stranger's text as it was written, without control characters."""
    return _UNREADABLE.sub("", _LINE_END.sub("\n", text)).strip("\n")
