"""How much mail may leave by itself, so that no two machines keep each other writing and no flood is passed on.

Three budgets, each for one day (UTC, by the programme's clock), so at most twice as much in any 24 hours:

- acknowledgements to one address: nobody's mailbox can be filled in somebody else's name, and a machine that
  answers everything soon has nothing more to answer;
- mails to others that one address leads to: its enquiries' cases, invitations and questions to operators;
- mails one enquiry leads to after its first: follow-ups passed on, bounces told.

A mail takes a place in each of its budgets, and a place is a claim: the very write that queues the mail finds out
whether somebody had the place, in whichever process. So a budget costs no round trip, and nothing to clean up.
Only where a place was taken, or memory says none is left, is the database asked.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

REMEMBERED: Final = 20_000
"""Budgets whose next free place is remembered; of others the first is tried."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Mails a day."""

    acknowledgements: int = 20
    because_of: int = 100
    about: int = 20


def acknowledgements_to(address: str) -> str:
    return f"acknowledgements/{_hashed(address)}"


def mails_because_of(address: str) -> str:
    return f"because-of/{_hashed(address)}"


def mails_about(reference: str) -> str:
    return f"about/{reference}"


def _hashed(address: str) -> str:
    """A part after `+` does not make it another's mailbox."""
    local, _, domain = address.lower().rpartition("@")
    return sha256(f"{local.partition('+')[0]}@{domain}".encode("utf-8", "replace")).hexdigest()[:24]


class Budgets:
    """Finds the places a mail takes. What it remembers may be behind the database, never ahead of it for long:
    a place it gave away that was not taken is found again when it seems that none is left."""

    def __init__(self, limits: Limits) -> None:
        self._limits = {
            "acknowledgements": limits.acknowledgements,
            "because-of": limits.because_of,
            "about": limits.about,
        }
        self._next: OrderedDict[str, int] = OrderedDict()

    def take(self, budgets: Sequence[str], now: datetime) -> tuple[str, ...] | None:
        """A place in each of them, or None where one seems to have none left."""
        days = [_day(budget, now) for budget in budgets]
        places = [self._next.get(day, 0) for day in days]
        if any(place >= self._limit(day) for day, place in zip(days, places, strict=True)):
            return None
        for day, place in zip(days, places, strict=True):
            self._remember(day, place + 1)
        return tuple(_place(day, place) for day, place in zip(days, places, strict=True))

    def ranges(self, budgets: Sequence[str], now: datetime) -> list[tuple[str, str]]:
        """Where the claims of these budgets lie, to ask the database for."""
        return [(f"{day}/", f"{day}0") for day in (_day(budget, now) for budget in budgets)]

    def learn(self, budgets: Sequence[str], now: datetime, taken: Iterable[str]) -> None:
        """What the database says is taken: the next place is the first that is free."""
        known = frozenset(taken)
        for budget in budgets:
            day = _day(budget, now)
            free = (place for place in range(self._limit(day)) if _place(day, place) not in known)
            self._remember(day, next(free, self._limit(day)))

    def full(self, budgets: Sequence[str], now: datetime) -> str:
        """Why nothing more is sent, in a sentence; empty while there is room in all of them."""
        for budget in budgets:
            day = _day(budget, now)
            if self._next.get(day, 0) >= self._limit(day):
                kind, limit = budget.partition("/")[0], self._limit(day)
                return f"Held back: {_WORDS[kind].format(limit)} on {now:%-d %B %Y} already."
        return ""

    def _limit(self, day: str) -> int:
        return self._limits[day.split("/")[1]]

    def _remember(self, day: str, place: int) -> None:
        self._next[day] = place
        self._next.move_to_end(day)
        if len(self._next) > REMEMBERED:
            self._next.popitem(last=False)


_WORDS = {
    "acknowledgements": "{} acknowledgements went to this address",
    "because-of": "mail from this address had led to {} mails",
    "about": "this enquiry had led to {} further mails",
}


def _day(budget: str, now: datetime) -> str:
    return f"{now:%Y%m%d}/{budget}"


def _place(day: str, place: int) -> str:
    return f"{day}/{place:04}"
