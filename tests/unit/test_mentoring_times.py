"""Wall time and zones: clock changes, a leap day, mentors abroad."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from services.mentoring.domain import book
from tests.unit.mentoring_examples import Diary, asked, at, mentor, openings, starts

EVERY_DAY = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
ROUND_THE_CLOCK = {"days": EVERY_DAY, "hours": "00:00-24:00"}


def instant(outcome) -> datetime:
    meeting = outcome.meeting
    return datetime.fromisoformat(meeting.starts).replace(tzinfo=ZoneInfo(meeting.zone)).astimezone(UTC)


def all_starts(plan, day: str) -> list[str]:
    """Every start offered on a day of UTC, as wall time where the mentees are."""
    return [f"{group[0].local:%H:%M}" for group in plan.on(at(f"{day}T00:00").date())]


@pytest.mark.parametrize(
    ("before", "after", "utc_before", "utc_after"),
    [
        ("2018-10-22T00:00", "2018-10-29T00:00", "2018-10-25T09:00", "2018-11-01T10:00"),
        ("2019-03-25T00:00", "2019-04-01T00:00", "2019-03-28T10:00", "2019-04-04T09:00"),
    ],
)
def test_ten_o_clock_stays_ten_o_clock_when_the_clocks_change(before, after, utc_before, utc_after):
    plan = openings()
    outcomes = [book(None, asked(), plan, frozenset(), at(now)) for now in (before, after)]
    assert [outcome.meeting.starts[11:] for outcome in outcomes] == ["10:00", "10:00"]
    assert [instant(outcome) for outcome in outcomes] == [at(utc_before), at(utc_after)]


def test_time_the_clock_skips_is_never_offered():
    """In London 31 March 2019 has no 01:00 to 01:59; 00:00 to 01:00 ends at a time that does not exist."""
    plan = openings(mentor(weekly={"sunday": ["00:00-04:00"]}), mentees=ROUND_THE_CLOCK)
    assert all_starts(plan, "2019-03-31") == ["02:00", "02:15", "02:30", "02:45", "03:00"]
    nothing_left = openings(mentor(weekly={"sunday": ["00:00-02:00"]}), mentees=ROUND_THE_CLOCK)
    assert all_starts(nothing_left, "2019-03-31") == []


def test_time_the_clock_shows_twice_is_never_offered():
    """In London 28 October 2018 shows 01:00 to 01:59 twice; nor does a session run across or end in it."""
    plan = openings(mentor(weekly={"sunday": ["00:00-04:00"]}), mentees=ROUND_THE_CLOCK)
    both_days = all_starts(plan, "2018-10-27") + all_starts(plan, "2018-10-28")
    assert both_days == ["02:00", "02:15", "02:30", "02:45", "03:00"]


def test_changes_where_the_mentor_is_are_avoided_too():
    """In Amman midnight to 00:59 came twice on Friday 26 October 2018; London waited until Sunday."""
    abroad = mentor(zone="Asia/Amman", weekly={"friday": ["00:00-03:00"]})
    plan = openings(abroad, mentees=ROUND_THE_CLOCK)
    both_days = all_starts(plan, "2018-10-25") + all_starts(plan, "2018-10-26")
    assert both_days == ["00:00", "00:15", "00:30", "00:45", "01:00"]  # 01:00 to 02:00 in Amman


def test_leap_day_is_a_day_like_others():
    plan = openings(mentor(weekly={"saturday": ["10:00-11:00"]}), mentees=ROUND_THE_CLOCK)
    outcome = book(None, asked(), plan, frozenset(), at("2020-02-24T09:00"))
    assert starts(outcome) == "ada 2020-02-29T10:00"
    week_later = book(None, asked(), plan, frozenset(), at("2020-02-29T12:00"))
    assert starts(week_later) == "ada 2020-03-07T10:00"


def test_leap_day_is_no_working_day_of_notice():
    """Saturday 29 February 2020: asked on Friday evening, met on Wednesday."""
    plan = openings(
        mentor(weekly={"tuesday": ["09:00-10:00"], "wednesday": ["09:00-10:00"]}),
        rules={"notice_working_days": 2},
    )
    assert starts(book(None, asked(), plan, frozenset(), at("2020-02-28T18:00"))) == "ada 2020-03-04T09:00"


def test_mentor_in_dublin_keeps_the_same_clock_as_london():
    plan = openings(mentor(zone="Europe/Dublin"))
    for now, expected in (("2018-10-22T00:00", "2018-10-25T09:00"), ("2018-10-29T00:00", "2018-11-01T10:00")):
        assert instant(book(None, asked(), plan, frozenset(), at(now))) == at(expected)


def test_hours_of_a_mentor_abroad_are_by_their_own_clock():
    """10:00 in Paris is 09:00 in London, and the session is written in the programme's zone."""
    outcome = book(None, asked(), openings(mentor(zone="Europe/Paris")), frozenset(), at("2018-10-22T00:00"))
    assert starts(outcome) == "ada 2018-10-25T09:00"
    assert outcome.meeting.zone == "Europe/London"
    assert instant(outcome) == at("2018-10-25T08:00")


def test_week_in_which_only_one_of_the_two_clocks_has_changed():
    """New York goes back a week after London: for that week its 09:00 is 13:00 in London and not 14:00."""
    plan = openings(mentor(zone="America/New_York", weekly={"thursday": ["09:00-10:00"]}))
    seen = [
        starts(book(None, asked(), plan, frozenset(), at(now)))
        for now in ("2018-10-22T00:00", "2018-10-29T00:00", "2018-11-05T00:00")
    ]
    assert seen == ["ada 2018-10-25T14:00", "ada 2018-11-01T13:00", "ada 2018-11-08T14:00"]


def test_mentor_whose_day_is_another_day_in_london():
    """Thursday 20:00 in Auckland is Thursday 08:00 in London; their Friday morning is still Thursday here."""
    plan = openings(
        mentor(zone="Pacific/Auckland", weekly={"thursday": ["19:00-23:00"], "friday": ["00:00-01:30"]})
    )
    diary = Diary(plan)
    now = at("2018-09-17T00:00")
    booked = [starts(diary.ask(asked(number), now)) for number in range(4)]
    assert booked == [
        "ada 2018-09-20T09:00",
        "ada 2018-09-20T10:15",
        "ada 2018-09-20T13:00",
        "ada 2018-09-27T09:00",
    ]


def test_zone_a_quarter_hour_off_fits_the_grid():
    plan = openings(mentor(zone="Asia/Kathmandu", weekly={"thursday": ["15:00-17:00"]}))
    outcome = book(None, asked(), plan, frozenset(), at("2018-11-05T00:00"))
    assert starts(outcome) == "ada 2018-11-08T09:15"
    assert instant(outcome) == at("2018-11-08T09:15")


def test_days_away_are_days_where_the_mentor_is():
    """Friday in Auckland is away; in London the hours would have begun on Thursday."""
    hours = {"friday": ["00:00-03:00"]}
    plan = openings(mentor(zone="Pacific/Auckland", weekly=hours, away=[{"day": "2018-09-21"}]))
    assert starts(book(None, asked(), plan, frozenset(), at("2018-09-17T00:00"))) == "ada 2018-09-27T13:00"


def test_same_instant_in_two_zones_is_one_claim():
    """A mentee who sees two mentors in different zones cannot be double-booked through the difference."""
    here = mentor("ada", weekly={"thursday": ["10:00-11:00"]})
    abroad = mentor(
        "bea", zone="Europe/Paris", weekly={"thursday": ["11:00-12:00"], "friday": ["11:00-12:00"]}
    )
    diary = Diary(openings(here, abroad))
    now = at("2018-10-22T00:00")
    booked = [diary.ask(asked(number, mentee="sam@mutual.example"), now).meeting.starts for number in (1, 2)]
    assert booked == ["2018-10-25T10:00", "2018-10-26T10:00"]
