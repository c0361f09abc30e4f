"""Random diaries and requests, held against an oracle that tries every quarter of an hour.

A run tries some hundreds of requests; `EXAMPLES=2000` makes it tens of thousands, for a change to the rules.
"""

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from random import Random
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.mentoring.domain import Booked, Held, horizon
from services.mentoring.mentors import Mentor, Mentors
from services.mentoring.openings import Openings, stamp
from shared.contracts.triage import MentoringRequested
from tests.unit.mentoring_examples import Diary, asked, mentor, openings

EXAMPLES = int(os.environ.get("EXAMPLES", "50"))
QUARTER = timedelta(minutes=15)
DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
# Zones that change their clocks on a Sunday, on a Friday, at midnight, in the other half of the year, by half
# an hour, or never; and two that are not whole hours from UTC.
ZONES = [
    "Europe/London",
    "Europe/London",
    "Europe/Dublin",
    "Europe/Paris",
    "America/New_York",
    "America/Sao_Paulo",
    "Asia/Amman",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Auckland",
]
# The days before clock changes, a leap day, Christmas; and a quiet one.
BEGINNINGS = [
    "2018-10-22",
    "2018-10-26",
    "2019-03-25",
    "2019-03-29",
    "2020-02-26",
    "2018-12-20",
    "2018-06-12",
]
AREAS = ["legal", "financial", "marketing"]


@st.composite
def hours(draw: st.DrawFn) -> list[str]:
    if draw(st.booleans()):  # the hours in which clocks change, which random ones seldom meet
        return draw(st.sampled_from([["00:00-04:00"], ["01:00-02:00"], ["00:15-01:15"], ["22:30-24:00"]]))
    marks = sorted(draw(st.sets(st.integers(0, 96), min_size=2, max_size=4)))
    pairs = [(a, b) for a, b in zip(marks[::2], marks[1::2], strict=False) if b - a >= 4]
    return [f"{a // 4:02}:{a % 4 * 15:02}-{b // 4:02}:{b % 4 * 15:02}" for a, b in pairs]


@st.composite
def plans(draw: st.DrawFn) -> Openings:
    slugs = ["ada", "bea", "cyd"][: draw(st.integers(1, 3))]
    begins = datetime.fromisoformat(draw(st.sampled_from(BEGINNINGS))).date()
    dates = st.integers(0, 14).map(lambda days: begins + timedelta(days=days))
    weeks = st.dictionaries(st.sampled_from(DAYS), hours(), min_size=1, max_size=7)
    if draw(st.booleans()):  # mentors who are free together, so that mentees could be double-booked
        zones, weeks = st.just("Europe/London"), st.just(draw(weeks))
    else:
        zones = st.sampled_from(ZONES)
    mentors = [
        mentor(
            slug,
            zone=draw(zones),
            expertise=draw(st.lists(st.sampled_from(AREAS), min_size=1, max_size=2, unique=True)),
            weekly=draw(weeks),
            away=[{"day": day} for day in draw(st.sets(dates, max_size=2))],
            instead=[{"day": day, "hours": draw(hours())} for day in draw(st.sets(dates, max_size=2))],
            sessions_per_week=draw(st.integers(1, 6)),
        )
        for slug in slugs
    ]
    rules = {
        "minutes": draw(st.sampled_from([15, 30, 45, 60])),
        "buffer_minutes": draw(st.sampled_from([0, 15, 30])),
        "notice_working_days": draw(st.integers(0, 2)),
        "horizon_weeks": 1,
        "allowance": draw(st.integers(1, 5)),
        "last_day": draw(st.none() | dates),
    }
    always = {"days": DAYS, "hours": "00:00-24:00"}
    mentees = {
        **draw(st.sampled_from([{}, always, {"days": DAYS[:5], "hours": "08:30-18:15"}])),
        "zone": draw(st.sampled_from(["Europe/London", "Europe/London", "Asia/Amman"])),
        "bank_holidays": sorted(draw(st.sets(dates, max_size=2))) if rules["last_day"] is None else [],
    }
    return openings(*mentors, rules=rules, mentees=mentees)


@st.composite
def requests(draw: st.DrawFn) -> list[tuple[MentoringRequested, datetime]]:
    """Requests and when they came, over a few days."""
    now = datetime.fromisoformat(draw(st.sampled_from(BEGINNINGS))).replace(tzinfo=UTC)
    found = []
    for number in range(draw(st.integers(1, 24))):
        now += timedelta(minutes=draw(st.sampled_from([0, 0, 0, 7, 60, 600])))
        areas = tuple(draw(st.lists(st.sampled_from(AREAS), max_size=1)))
        who = draw(st.sampled_from(["sam", "sam", "kim", ""]))
        mentee = f"{who}@mutual.example" if who else ""
        found.append((asked(number, areas=areas, mentee=mentee), now))
    return found


@cache
def wall_clock(zone: ZoneInfo, instant: datetime) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


@cache
def shown_once(zone: ZoneInfo, instant: datetime) -> bool:
    near = [wall_clock(zone, instant + QUARTER * n) for n in range(-12, 13)]
    return near.count(near[12]) == 1


@dataclass
class Oracle:
    """What a patient person with a wall calendar would say. Shares no code with the scheduler: it knows only
    sessions as pairs of instants, and asks each zone what its clock shows."""

    mentors: Mentors
    booked: list[tuple[str, str, datetime, datetime]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.possible = cache(self._possible)

    def earliest(self, event: MentoringRequested, now: datetime) -> tuple[datetime, set[str]] | None:
        rules, (begin, until) = self.mentors.rules, horizon(now, self.mentors)
        mentee = event.data.mentee.address
        if sum(who == mentee for _, who, _, _ in self.booked) >= rules.allowance:
            return None
        seconds = int(begin.timestamp())
        start = datetime.fromtimestamp(seconds + -seconds % 900, UTC)
        while start < until:
            free = {
                one.slug
                for one in self.mentors.mentors
                if (not event.data.areas or event.data.areas[0] in one.expertise)
                and self.possible(one.slug, start)
                and self._free(one, mentee, start)
            }
            if free:
                return start, free
            start += QUARTER
        return None

    def _free(self, one: Mentor, mentee: str, start: datetime) -> bool:
        rules = self.mentors.rules
        end, gap = start + timedelta(minutes=rules.minutes), timedelta(minutes=rules.buffer_minutes)
        mine = [session for session in self.booked if session[0] == one.slug or session[1] == mentee]
        if any(start < ends + gap and begins < end + gap for _, _, begins, ends in mine):
            return False
        week = start.astimezone(one.zone).isocalendar()[:2]
        weeks = [
            begins.astimezone(one.zone).isocalendar()[:2] for slug, _, begins, _ in mine if slug == one.slug
        ]
        return weeks.count(week) < one.sessions_per_week

    def _possible(self, slug: str, start: datetime) -> bool:
        """Whether the whole session lies in the mentor's hours and in the mentees', on unequivocal clocks."""
        one = next(one for one in self.mentors.mentors if one.slug == slug)
        mentees, length = self.mentors.mentees, timedelta(minutes=self.mentors.rules.minutes)
        quarters = [start + QUARTER * n for n in range(length // QUARTER)]

        def mentee_works(wall: datetime) -> bool:
            minute = wall.hour * 60 + wall.minute
            return mentees.works_on(wall.date()) and mentees.hours.start <= minute < mentees.hours.until

        def mentor_works(wall: datetime) -> bool:
            minute = wall.hour * 60 + wall.minute
            return any(part.start <= minute < part.until for part in one.hours_on(wall.date()))

        for zone, works in ((mentees.zone, mentee_works), (one.zone, mentor_works)):
            walls = [wall_clock(zone, quarter) for quarter in quarters]
            if not all(map(works, walls)) or len({wall.date() for wall in walls}) > 1:
                return False
            end = start + length
            if wall_clock(zone, end) - walls[0] != length:
                return False
            if not (shown_once(zone, start) and shown_once(zone, end)):
                return False
        return True


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=plans(), begin=st.sampled_from(BEGINNINGS))
def test_openings_are_exactly_the_times_that_lie_within_everybodys_hours(plan, begin):
    oracle, midnight = Oracle(plan.mentors), datetime.fromisoformat(begin).replace(tzinfo=UTC)
    for day in (midnight + timedelta(days=n) for n in range(8)):
        offered = [
            (stamp(one.cell), one.mentor.slug, one.local) for group in plan.on(day.date()) for one in group
        ]
        possible = [
            (f"{instant:%Y-%m-%dT%H:%MZ}", one.slug, wall_clock(plan.mentors.mentees.zone, instant))
            for instant in (day + QUARTER * n for n in range(96))
            for one in plan.mentors.mentors
            if oracle.possible(one.slug, instant)
        ]
        assert offered == possible


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=plans(), wanted=requests())
def test_everybody_gets_the_earliest_time_there_is_and_no_two_sessions_overlap(plan, wanted):
    diary, oracle = Diary(plan), Oracle(plan.mentors)
    for event, now in wanted:
        expected = oracle.earliest(event, now)
        outcome = diary.ask(event, now)
        if expected is None:
            assert isinstance(outcome, Held), "booked where the oracle sees no time"
            continue
        assert isinstance(outcome, Booked), f"starved: {expected} was free"
        meeting = outcome.meeting
        wall = datetime.fromisoformat(meeting.starts).replace(tzinfo=plan.mentors.mentees.zone)
        start, free = expected
        assert wall.astimezone(UTC) == start
        assert meeting.mentor_slug in free
        end = start + timedelta(minutes=meeting.minutes)
        oracle.booked.append((meeting.mentor_slug, event.data.mentee.address, start, end))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=plans(), wanted=requests(), seed=st.integers(0, 1000))
def test_requests_decided_at_once_never_overlap_and_all_end(plan, wanted, seed):
    """All decide on what they read before anybody wrote; the unique index lets some through; the others read
    again. Each round answers at least one, so that nobody goes round for ever."""
    random = Random(seed)
    diary = Diary(plan)
    now = wanted[-1][1]
    waiting, booked = [event for event, _ in wanted], []
    rounds = 0
    while waiting:
        rounds += 1
        assert rounds <= len(wanted)
        decided = [(event, diary.decide(event, now)) for event in waiting]
        random.shuffle(decided)
        waiting = []
        for event, outcome in decided:
            if not diary.keep(outcome):
                waiting.append(event)
            elif isinstance(outcome, Booked):
                zone = plan.mentors.mentees.zone
                start = datetime.fromisoformat(outcome.meeting.starts).replace(tzinfo=zone).astimezone(UTC)
                booked.append((outcome.meeting.mentor_slug, event.data.mentee.address, start))
    rules = plan.mentors.rules
    apart = timedelta(minutes=rules.minutes + rules.buffer_minutes)
    for index, (slug, mentee, start) in enumerate(booked):
        for other_slug, other_mentee, other_start in booked[:index]:
            if slug == other_slug or mentee == other_mentee:
                assert abs(start - other_start) >= apart
