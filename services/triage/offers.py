"""Who a case is offered to: the partners that serve its need, looked at one by one, and the terms of an offer.

Pure. What the partners have on their hands, and whom they may not advise, is an argument: `Standing`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache
from typing import Annotated, Literal, TypeGuard, cast

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from services.triage.classify.reading import Guess
from services.triage.programme import Member, Programme, Routable, Slug
from services.triage.working_time import after_working_hours

Day = Annotated[date, PlainSerializer(date.isoformat)]
"""A day without a time, which the database has no type for."""

Reason = Literal["conflict-of-interest", "no-capacity", "out-of-expertise", "other"]
Ended = Literal["declined", "expired", "withdrawn"]
Exclusion = Literal["chosen", "not-needed", "not-a-member", "conflict", "full", "language", "region", Ended]

REASONS: dict[Reason, str] = {
    "conflict-of-interest": "a conflict of interest",
    "no-capacity": "no capacity",
    "out-of-expertise": "it is not what we know about",
    "other": "another reason",
}
"""Why a partner may decline, in the order and the words a person is asked in."""


class Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Candidate(Part):
    """A partner looked at, in order of preference, and why it was or wasn't chosen."""

    slug: str
    need: str
    outcome: Exclusion
    why: str


class Offer(Part):
    """A case offered to one partner, for `days` working days of work, until `expires_at`.

    `by`, `at`, `reason` and `words` say how it ended: who answered or took it back, when and why. A partner
    that has had an offer of a case which ended otherwise than by its own acceptance is not asked again.
    """

    id: str
    number: int
    partner: Slug
    days: float
    made_at: datetime
    expires_at: datetime
    state: Literal["open", "accepted", Ended] = "open"
    by: str = ""
    at: datetime | None = None
    reason: str = ""
    words: str = ""


def has_ended(state: Literal["open", "accepted", Ended]) -> TypeGuard[Ended]:
    """Whether the partner of an offer in this state does not have the case (any more)."""
    return state not in {"open", "accepted"}


class Conflict(Part):
    """Somebody a partner may not advise, from `starts` to `ends` (both included; None is for good).

    `organisation` is looked for as whole words in what the enquirer wrote, so that a partner acting for the
    parent council is seen; `domain` is that of the enquirer's address, or a parent of it.
    """

    partner: Slug
    organisation: Annotated[str, Field(max_length=200)] = ""
    domain: Annotated[str, Field(max_length=253)] = ""
    why: Annotated[str, Field(min_length=3, max_length=1_000)]
    who: Annotated[str, Field(min_length=1, max_length=100)]
    starts: Day
    ends: Day | None = None

    def stands(self, day: date) -> bool:
        return self.starts <= day and (self.ends is None or day <= self.ends)

    def concerns(self, matter: "Matter") -> bool:
        """Whether the enquiry is about what the conflict names."""
        domain = self.domain.lower().strip(".@ ")
        if domain and (matter.domain == domain or matter.domain.endswith(f".{domain}")):
            return True
        return bool(words_of(self.organisation)) and f" {words_of(self.organisation)} " in matter.words


def words_of(text: str) -> str:
    """Small letters and digits, one space between words: how names are compared."""
    return " ".join(re.findall(r"\w+", text.casefold()))


@dataclass(frozen=True)
class Matter:
    """Who wrote and what they wrote, as far as a conflict can be seen in it."""

    address: str
    text: str

    @property
    def domain(self) -> str:
        return self.address.rpartition("@")[2].lower().rstrip(".")

    @property
    def words(self) -> str:
        return f" {_words_once(self.text)} "


_words_once = lru_cache(maxsize=64)(words_of)  # for every conflict of the register the same text is searched


@dataclass(frozen=True)
class Standing:
    """What is known of the partners beside the programme file: working days each has in hand, by its slug,
    and the conflicts of interest on record."""

    days: Mapping[str, float] = field(default_factory=dict)
    conflicts: tuple[Conflict, ...] = ()

    def conflict(self, slug: str, matter: Matter, day: date) -> Conflict | None:
        for conflict in self.conflicts:
            if conflict.partner == slug and conflict.stands(day) and conflict.concerns(matter):
                return conflict
        return None


NOTHING_KNOWN = Standing()


@dataclass(frozen=True)
class Wanted:
    """What a case asks of a partner. `past` are the partners that were offered it before, and how that ended;
    `only` is the one an operator has chosen."""

    guess: Guess
    matter: Matter
    past: Mapping[str, Ended] = field(default_factory=dict)
    language: str | None = None
    region: str | None = None
    only: str | None = None

    @property
    def need(self) -> Routable:
        return cast(Routable, self.guess.pilot_theme or next(iter(self.guess.areas), "mentoring"))


def candidates_for(
    wanted: Wanted, programme: Programme, now: datetime, standing: Standing = NOTHING_KNOWN
) -> tuple[Candidate, ...]:
    """The partners for the main need, best first; the first that nothing speaks against is chosen.

    Partners the programme ranks alike are ordered by the share of their capacity in hand. One whose capacity
    is used up comes after all others, or is out where the programme says so.
    """
    need, today = wanted.need, programme.local(now).date()
    ranked = _ranked(wanted, programme, standing)
    found: list[Candidate] = []
    full: list[int] = []
    chosen: int | None = None
    for slug, place in ranked:
        member = programme.partner(slug)
        serves = f"{place} for {need.replace('-', ' ')}"
        against = _against(member, wanted, today, standing)
        if against is None and _used(member, standing) >= 1 and wanted.only is None:
            against = "full", "but has no capacity left"
            full.append(len(found))
        outcome: Exclusion
        if against is not None:
            outcome, why = against[0], f"{serves}, {against[1]}"
        elif chosen is not None:
            outcome, why = "not-needed", f"{serves}, not needed"
        else:
            outcome, why, chosen = "chosen", f"{serves} and a member on {_day(today)}", len(found)
        found.append(Candidate(slug=slug, need=need, outcome=outcome, why=why))
    if chosen is None and full and programme.offers.when_full == "offer":
        least = min(full, key=lambda at: _used(programme.partner(found[at].slug), standing))
        why = f"{found[least].why.rpartition(', but')[0]}, and no partner has capacity left"
        found[least] = found[least].model_copy(update={"outcome": "chosen", "why": why})
    return tuple(found)


def _ranked(wanted: Wanted, programme: Programme, standing: Standing) -> list[tuple[str, str]]:
    if wanted.only is not None:
        return [(wanted.only, "an operator's choice")]
    ranked: list[tuple[str, str]] = []
    for place, alike in enumerate(programme.preference(wanted.need)):
        article = "the" if len(alike) == 1 else "a"
        name = f"{article} {'first choice' if place == 0 else 'fallback'}"
        fairly = sorted(alike, key=lambda slug: (_used(programme.partner(slug), standing), slug))
        ranked += [(slug, name) for slug in fairly]
    return ranked


def _against(member: Member, wanted: Wanted, today: date, standing: Standing) -> tuple[Exclusion, str] | None:
    """What speaks against a partner for good, as outcome and words."""
    if not member.member_from <= today <= member.member_to:
        return (
            "not-a-member",
            f"but a member only from {_day(member.member_from)} to {_day(member.member_to)}",
        )
    if ended := wanted.past.get(member.slug):
        return ended, {"declined": "but it declined", "expired": "but it did not answer"}.get(
            ended, "but its offer was withdrawn"
        )
    if conflict := standing.conflict(member.slug, wanted.matter, today):
        return "conflict", f"but it has a conflict of interest: {conflict.why}"
    if wanted.language and member.languages and wanted.language not in member.languages:
        return "language", f"but does not work in {wanted.language}"
    if wanted.region and member.regions and wanted.region not in member.regions:
        return "region", f"but does not work in {wanted.region}"
    return None


def _used(member: Member, standing: Standing) -> float:
    in_hand = standing.days.get(member.slug, 0.0)
    return in_hand / member.capacity_days if member.capacity_days else 1.0


def make_offer(
    enquiry_id: str, number: int, candidate: Candidate, programme: Programme, now: datetime
) -> Offer:
    """The offer of a case to a candidate. Its id follows from the case and how many offers it has had."""
    return Offer(
        id=f"{enquiry_id}-{number}",
        number=number,
        partner=candidate.slug,
        days=programme.offers.days[cast(Routable, candidate.need)],
        made_at=now,
        expires_at=after_working_hours(now, programme.offers.answer_within_hours),
    )


def _day(day: date) -> str:
    return f"{day.day} {day:%B %Y}"
