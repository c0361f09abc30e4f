"""Who meets whom, and when: the earliest time that suits a mentor and a mentee.

No two sessions of one person overlap, because a session *claims* what it takes, and the database lets a
claim be held once: each grid cell of the mentor's time and of the mentee's, in UTC so that neither zones nor
clock changes can hide an overlap; one numbered place in the mentor's week; and one in the mentee's allowance.
`taken` only has to be recent. If somebody else was faster, the write fails, and the handler reads what is
taken and decides again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from hashlib import sha256
from typing import Literal

from pydantic import BaseModel, ConfigDict

from services.mentoring.mentors import Mentees, Mentor, Mentors
from services.mentoring.openings import Opening, Openings, cell_from, cells, mentor_key
from shared.contracts.cloudevents import Person
from shared.contracts.triage import Area, MentoringKind, MentoringRequested


class _State(BaseModel):
    model_config = ConfigDict(frozen=True)


class Request(_State):
    """What was asked for. `areas` are ordered, main need first."""

    reference: str
    kind: MentoringKind
    areas: tuple[Area, ...] = ()
    mentee: Person


class Meeting(_State):
    """A time and a person. `starts` is `YYYY-MM-DDTHH:MM` by the wall clock of `zone`. `uid` and `sequence`
    are iCalendar's (RFC 5545), and the uid stays the same for the life of the session."""

    mentor_slug: str
    mentor: Person
    starts: str
    zone: str
    minutes: int
    where: str
    uid: str
    sequence: int = 0


class Considered(_State):
    """A mentor who was not chosen, and why not."""

    slug: str
    why_not: str


class Session(_State):
    """The aggregate: one mentoring request and what came of it; `id` is the enquiry's."""

    id: str
    request: Request
    status: Literal["booked", "registered", "held"]
    why: str
    reason: str = ""
    meeting: Meeting | None = None
    considered: tuple[Considered, ...] = ()
    claims: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Booked:
    """A mentor and a time were found."""

    state: Session
    meeting: Meeting


@dataclass(frozen=True, slots=True)
class Registered:
    """Interest in the peer network was noted for the next gathering."""

    state: Session


@dataclass(frozen=True, slots=True)
class Held:
    """Nobody could be found; an operator decides."""

    state: Session


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The request had been answered before, and there is nothing new to say."""

    state: Session


Outcome = Booked | Registered | Held | Unchanged

_SPOKEN: dict[Area, str] = {
    "legal": "legal matters",
    "financial": "finance",
    "marketing": "marketing",
    "human-resources": "human resources",
    "business-planning": "business planning",
}


def book(
    session: Session | None,
    event: MentoringRequested,
    openings: Openings,
    taken: frozenset[str],
    now: datetime,
) -> Outcome:
    """Book the earliest opening free for a suitable mentor and the mentee, or say why there is none.

    `taken` are the claims other sessions hold (see `claim_ranges`). Between mentors who are free equally
    early a draw by enquiry id decides, so that requests made at once do not all want the same mentor.
    """
    asked = event.data
    request = Request(reference=asked.reference, kind=asked.kind, areas=asked.areas, mentee=asked.mentee)
    if session is not None and session.status != "held" and session.request.kind == request.kind:
        return Unchanged(session)
    if session is not None and session.status == "booked":
        # A meeting people have in their diaries is not dropped because a later mail asks for something else.
        return Unchanged(session)
    if request.kind == "peer-network":
        why = "Asked for the peer network: noted for the next gathering."
        return Registered(Session(id=event.correlationid, request=request, status="registered", why=why))
    outcome = _one_to_one(event.correlationid, request, openings, taken, now)
    if session is not None and isinstance(outcome, Held) and session.request == request:
        return Unchanged(session)  # the operator knows, and the mentee need not hear it twice
    return outcome


def claims(session: Session) -> Sequence[str]:
    """What no other session may hold."""
    return session.claims


def horizon(now: datetime, mentors: Mentors) -> tuple[datetime, datetime]:
    """The instants, in UTC, between which a session asked for now may start; the second is excluded.

    The first is the notice people get: so many of the mentees' working days, counted from the moment somebody
    could have read the request. It may lie after the second, once the programme nears its last day.
    """
    mentees, rules = mentors.mentees, mentors.rules
    local = now.astimezone(mentees.zone)
    opening = time(mentees.hours.start // 60, mentees.hours.start % 60)
    day, at = local.date(), max(local.time(), opening)
    if not mentees.works_on(day) or local.hour * 60 + local.minute >= mentees.hours.until:
        day, at = _next_working_day(mentees, day), opening
    for _ in range(rules.notice_working_days):
        day = _next_working_day(mentees, day)
    first = datetime.combine(day, at, mentees.zone).astimezone(UTC)
    until = (now + timedelta(weeks=rules.horizon_weeks)).astimezone(UTC)
    if rules.last_day is not None:
        midnight = datetime.combine(rules.last_day + timedelta(days=1), time(), mentees.zone)
        until = min(until, midnight.astimezone(UTC))
    return first, until


def claim_ranges(event: MentoringRequested, mentors: Mentors, now: datetime) -> list[tuple[str, str]]:
    """The stretches of claims, from and up to, within which `book` looks at what is taken.

    Claims sort as text in the order of time, so the unique index on claims answers each as one range
    (`Aggregates.claimed`). More claims than these do no harm.
    """
    first, until = horizon(now, mentors)
    # Places in a week are written under its Monday, up to a week and a day before the session; a session that
    # starts last may end a day later. A claim missed here would clash for ever.
    low, high = first - timedelta(days=8), until + timedelta(days=2)
    keys = [
        mentor_key(mentor)
        for mentor in mentors.mentors
        if _unsuitable(mentor, event.data.areas, event.data.mentee) is None
    ]
    ranges = [(f"{key}@{low:%Y-%m-%d}", f"{key}@{high:%Y-%m-%d}") for key in keys]
    mentee = _mentee_key(event.data.mentee)
    # `#` sorts before `@`: the places in the allowance, whenever they were taken, come first.
    return [*ranges, (f"{mentee}#", f"{mentee}@{high:%Y-%m-%d}")]


def _one_to_one(
    enquiry: str, request: Request, openings: Openings, taken: frozenset[str], now: datetime
) -> Booked | Held:
    mentors = openings.mentors
    why_not = {mentor.slug: _unsuitable(mentor, request.areas, request.mentee) for mentor in mentors.mentors}
    suitable = frozenset(slug for slug, reason in why_not.items() if reason is None)
    if not suitable:
        why = "The only mentor who could help is the one who asks."
        if request.areas and not any(request.areas[0] in mentor.expertise for mentor in mentors.mentors):
            why = f"No mentor advises on {_SPOKEN[request.areas[0]]}."
        return _held(enquiry, request, "no-mentor", why, _considered(why_not, ""))

    mentee = _mentee_key(request.mentee)
    place = _free_place(tuple(f"{mentee}#{one}" for one in range(mentors.rules.allowance)), taken)
    if place is None:
        why = f"The mentee has had all {mentors.rules.allowance} sessions the programme allows."
        return _held(enquiry, request, "allowance-used", why, ())

    first, until = window = horizon(now, mentors)
    equally_early, theirs = _earliest(openings, suitable, mentee, taken, window)
    if not equally_early:
        last = _day(until - timedelta(seconds=1), mentors)
        why = f"No time from {_day(first, mentors)} to {last} is free for both a mentor and the mentee."
        if first >= until:
            why = f"Sessions end on {last}, which is too soon for one more."
        return _held(enquiry, request, "no-slot", why, _considered(why_not, "no time free for both"))

    chosen = min(equally_early, key=lambda one: _lot(enquiry, one.mentor.slug))
    why_not |= {one.mentor.slug: "free at the same time, lost the draw" for one in equally_early}
    why_not.pop(chosen.mentor.slug)
    meeting = Meeting(
        mentor_slug=chosen.mentor.slug,
        mentor=Person(name=chosen.mentor.name, address=chosen.mentor.address),
        starts=f"{chosen.local:%Y-%m-%dT%H:%M}",
        zone=mentors.mentees.zone.key,
        minutes=mentors.rules.minutes,
        where=chosen.mentor.where,
        uid=f"session-{enquiry}@{mentors.rules.uid_domain}",
    )
    state = Session(
        id=enquiry,
        request=request,
        status="booked",
        why=f"{chosen.mentor.name} {_strength(request.areas)}is the first who is free when the mentee is.",
        meeting=meeting,
        considered=_considered(why_not, "nothing free as early"),
        claims=(*chosen.claims, *theirs, next(one for one in chosen.week if one not in taken), place),
    )
    return Booked(state, meeting)


def _earliest(
    openings: Openings,
    suitable: frozenset[str],
    mentee: str,
    taken: frozenset[str],
    window: tuple[datetime, datetime],
) -> tuple[list[Opening], tuple[str, ...]]:
    """Suitable mentors' openings at the earliest time free for both, and the mentee's cells at that time."""
    rules = openings.mentors.rules
    start, stop = (cell_from(instant) for instant in window)
    day, last = (instant.date() for instant in window)
    while day <= last:
        for group in openings.on(day):
            if not start <= group[0].cell < stop:
                continue
            free = [
                one
                for one in group
                if one.mentor.slug in suitable
                and taken.isdisjoint(one.claims)
                and _free_place(one.week, taken) is not None
            ]
            if free:
                theirs = cells(mentee, group[0].cell, rules.minutes, rules.buffer_minutes)
                if taken.isdisjoint(theirs):
                    return free, theirs
        day += timedelta(days=1)
    return [], ()


def _unsuitable(mentor: Mentor, areas: tuple[Area, ...], mentee: Person) -> str | None:
    """Why a mentor could not meet this mentee at any time; None if they could."""
    if mentor.address.casefold() == mentee.address.strip().casefold():
        return "is the one who asks"
    if areas and areas[0] not in mentor.expertise:
        return f"does not advise on {_SPOKEN[areas[0]]}"
    return None


def _mentee_key(mentee: Person) -> str:
    """One mentee by their address, however they write it, in a form that fits a claim and names nobody."""
    return f"mentee:{sha256(mentee.address.strip().casefold().encode()).hexdigest()[:32]}"


def _free_place(places: tuple[str, ...], taken: frozenset[str]) -> str | None:
    return next((place for place in places if place not in taken), None)


def _lot(enquiry: str, slug: str) -> bytes:
    return sha256(f"{enquiry}:{slug}".encode()).digest()


def _next_working_day(mentees: Mentees, day: date) -> date:
    day += timedelta(days=1)
    while not mentees.works_on(day):
        day += timedelta(days=1)
    return day


def _held(enquiry: str, request: Request, reason: str, why: str, considered: tuple[Considered, ...]) -> Held:
    return Held(
        Session(id=enquiry, request=request, status="held", why=why, reason=reason, considered=considered)
    )


def _considered(why_not: dict[str, str | None], otherwise: str) -> tuple[Considered, ...]:
    return tuple(Considered(slug=slug, why_not=reason or otherwise) for slug, reason in why_not.items())


def _strength(areas: tuple[Area, ...]) -> str:
    return f"advises on {_SPOKEN[areas[0]]} and " if areas else ""


def _day(instant: datetime, mentors: Mentors) -> str:
    local = instant.astimezone(mentors.mentees.zone)
    return f"{local:%A} {local.day} {local:%B %Y}"
