"""Small mentors files and requests for the tests of mentoring's rules."""

from datetime import UTC, datetime
from typing import Any

from services.mentoring.domain import Booked, Outcome, book, claim_ranges
from services.mentoring.mentors import Mentors
from services.mentoring.openings import Openings
from shared.contracts.triage import MentoringRequested, RequestedMentoring

RULES = {
    "minutes": 60,
    "buffer_minutes": 15,
    "notice_working_days": 0,
    "horizon_weeks": 8,
    "allowance": 6,
    "uid_domain": "mentoring.programme.example",
}
MENTEES = {
    "zone": "Europe/London",
    "days": ["monday", "tuesday", "wednesday", "thursday", "friday"],
    "hours": "09:00-17:00",
    "bank_holidays": [],
}


def mentor(slug: str = "ada", **given: Any) -> dict[str, Any]:
    return {
        "slug": slug,
        "name": slug.title(),
        "address": f"{slug}@mentors.example",
        "zone": "Europe/London",
        "expertise": ["legal"],
        "weekly": {"thursday": ["10:00-13:00"]},
        "sessions_per_week": 40,
        "where": "By telephone",
        **given,
    }


def openings(
    *mentors: dict[str, Any], rules: dict[str, Any] | None = None, mentees: dict[str, Any] | None = None
) -> Openings:
    return Openings(
        Mentors.model_validate(
            {
                "rules": {**RULES, **(rules or {})},
                "mentees": {**MENTEES, **(mentees or {})},
                "mentors": list(mentors) or [mentor()],
            }
        )
    )


def at(text: str) -> datetime:
    """An instant in UTC, from `2018-10-25T09:00`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def asked(
    number: int = 1,
    *,
    kind: str = "one-to-one",
    areas: tuple[str, ...] = (),
    mentee: str = "",
    name: str = "",
) -> MentoringRequested:
    data = {
        "reference": "MSP-7F3K-2Q",
        "kind": kind,
        "areas": areas,
        "mentee": {"name": name, "address": mentee or f"mentee-{number}@mutual.example"},
    }
    return MentoringRequested(
        id=f"requested-{number}",
        subject="enquiry",
        time=at("2018-10-01T09:00"),
        correlationid=f"{number:032x}",
        causationid="received-1",
        data=RequestedMentoring.model_validate(data),
    )


class Diary:
    """Sessions booked one after the other, with claims that one session may hold, as in the database."""

    def __init__(self, openings: Openings) -> None:
        self.openings = openings
        self.claims: set[str] = set()

    def taken(self, event: MentoringRequested, now: datetime) -> frozenset[str]:
        """Only what lies in the ranges the service reads: too narrow a range would show as a clash."""
        ranges = claim_ranges(event, self.openings.mentors, now)
        return frozenset(one for one in self.claims if any(low <= one < high for low, high in ranges))

    def decide(self, event: MentoringRequested, now: datetime) -> Outcome:
        return book(None, event, self.openings, self.taken(event, now), now)

    def keep(self, outcome: Outcome) -> bool:
        """False if another session holds one of the claims; then nothing is kept."""
        if not self.claims.isdisjoint(outcome.state.claims):
            return False
        assert len(set(outcome.state.claims)) == len(outcome.state.claims)
        self.claims.update(outcome.state.claims)
        return True

    def ask(self, event: MentoringRequested, now: datetime) -> Outcome:
        outcome = self.decide(event, now)
        assert self.keep(outcome), "a clash although nobody else was booking"
        return outcome


def starts(outcome: Outcome) -> str:
    """`slug 2018-11-01T10:00`, or the reason for which there is no session."""
    if isinstance(outcome, Booked):
        return f"{outcome.meeting.mentor_slug} {outcome.meeting.starts}"
    return outcome.state.reason or outcome.state.status
