"""When a session could start: mentors' hours and mentees' hours as instants, before anybody is booked."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import groupby
from zoneinfo import ZoneInfo

from services.mentoring.mentors import GRID_MINUTES, Hours, Mentor, Mentors

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CELL = timedelta(minutes=GRID_MINUTES)
_REMEMBERED_DAYS = 400


@dataclass(frozen=True, slots=True)
class Opening:
    """A time one mentor could meet any mentee.

    `cell` counts grid cells since 1970 in UTC. `local` is the start by the mentees' clock. `claims` are the
    mentor's cells; `week` are the places in the mentor's week, of which a session needs one.
    """

    cell: int
    mentor: Mentor
    local: datetime
    claims: tuple[str, ...]
    week: tuple[str, ...]


class Openings:
    """The openings of a mentors file, worked out a day at a time and remembered.

    Remembering changes no answer, it only spares each request some thousands of time zone look-ups. It is
    kept here and not in `Mentors`, because a pydantic copy with other rules would share what was remembered.
    """

    def __init__(self, mentors: Mentors) -> None:
        self.mentors = mentors
        self._days: dict[date, tuple[tuple[Opening, ...], ...]] = {}

    def on(self, day: date) -> tuple[tuple[Opening, ...], ...]:
        """All openings that start on a day of UTC, earliest first, grouped by start."""
        found = self._days.get(day)
        if found is None:
            if len(self._days) >= _REMEMBERED_DAYS:
                self._days.clear()
            openings = [one for mentor in self.mentors.mentors for one in self._of(mentor, day)]
            openings.sort(key=lambda one: one.cell)
            found = tuple(tuple(same) for _, same in groupby(openings, key=lambda one: one.cell))
            self._days[day] = found
        return found

    def _of(self, mentor: Mentor, day: date) -> Iterator[Opening]:
        rules, mentees = self.mentors.rules, self.mentors.mentees
        midnight = datetime.combine(day, time(), UTC)
        # One day of UTC touches one or two days of the mentor's calendar.
        ends = (midnight, midnight + timedelta(days=1, microseconds=-1))
        for theirs in sorted({end.astimezone(mentor.zone).date() for end in ends}):
            for hours in mentor.hours_on(theirs):
                for instant in _starts(theirs, hours, mentor.zone, rules.minutes):
                    local = _wall(instant, mentees.zone, rules.minutes)
                    if local is None or instant.date() != day or not mentees.works_on(local.date()):
                        continue
                    minute = local.hour * 60 + local.minute
                    if mentees.hours.start <= minute and minute + rules.minutes <= mentees.hours.until:
                        cell = cell_from(instant)
                        yield Opening(
                            cell=cell,
                            mentor=mentor,
                            local=local,
                            claims=cells(mentor_key(mentor), cell, rules.minutes, rules.buffer_minutes),
                            week=_week(mentor, theirs),
                        )


def cells(key: str, cell: int, minutes: int, buffer_minutes: int) -> tuple[str, ...]:
    """The grid cells a person's session takes: the session and the buffer *after* it, never the one before.

    Two such stretches are disjoint exactly when the gap between the sessions is at least one buffer, which is
    the rule. Claiming a buffer on both sides would ask for two of them between neighbours.
    """
    count = (minutes + buffer_minutes) // GRID_MINUTES
    return tuple(f"{key}@{stamp(one)}" for one in range(cell, cell + count))


def mentor_key(mentor: Mentor) -> str:
    return f"mentor:{mentor.slug}"


def _week(mentor: Mentor, theirs: date) -> tuple[str, ...]:
    """The places in a mentor's week. A unique claim on a numbered place is a limit the database itself keeps.

    `#` sorts before `T`, so that a week's places lie within the same range of claims as its cells.
    """
    monday = theirs - timedelta(days=theirs.weekday())
    return tuple(f"{mentor_key(mentor)}@{monday}#{place}" for place in range(mentor.sessions_per_week))


def cell_from(instant: datetime) -> int:
    """The first cell that does not start before an instant."""
    return -((EPOCH - instant) // _CELL)


@lru_cache(maxsize=50_000)
def stamp(cell: int) -> str:
    """A cell as the UTC instant it starts at, such as `2018-10-29T10:00Z`; text sorts as time does."""
    return f"{EPOCH + cell * _CELL:%Y-%m-%dT%H:%MZ}"


def _starts(day: date, hours: Hours, zone: ZoneInfo, minutes: int) -> Iterator[datetime]:
    """Every start, on the grid of the wall clock, at which a session lies wholly within the hours."""
    for minute in range(hours.start, hours.until - minutes + 1, GRID_MINUTES):
        wall = datetime.combine(day, time(minute // 60, minute % 60), zone)
        if _is_plain(wall):
            instant = wall.astimezone(UTC)
            if _wall(instant, zone, minutes) is not None:
                yield instant


def _wall(instant: datetime, zone: ZoneInfo, minutes: int) -> datetime | None:
    """The start by the wall clock, without zone; None if the clocks change before the session has ended, or
    if start or end is a time that the wall clock shows twice that day."""
    start = instant.astimezone(zone)
    end = (instant + timedelta(minutes=minutes)).astimezone(zone)
    if not (_is_plain(start) and _is_plain(end)):
        return None
    wall = start.replace(tzinfo=None, fold=0)
    return wall if end.replace(tzinfo=None, fold=0) - wall == timedelta(minutes=minutes) else None


def _is_plain(wall: datetime) -> bool:
    """Whether the wall clock shows this time once: `fold` matters in gaps and repeats alone (PEP 495)."""
    return wall.replace(fold=0).utcoffset() == wall.replace(fold=1).utcoffset()
