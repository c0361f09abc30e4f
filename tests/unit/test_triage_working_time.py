"""Working hours in England: nights, weekends, bank holidays, and the weeks in which clocks change."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.triage.working_time import LONDON, after_working_hours, is_working_day, working_hours_between


def london(year: int, month: int, day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=LONDON)


@pytest.mark.parametrize(
    ("start", "hours", "end"),
    [
        # within a day, over a night, over a weekend
        (london(2018, 9, 24, 10), 2, london(2018, 9, 24, 12)),
        (london(2018, 9, 24, 16), 2, london(2018, 9, 25, 10)),
        (london(2018, 9, 28, 16), 2, london(2018, 10, 1, 10)),
        # a day filled ends at five, and not at nine on the next
        (london(2018, 9, 24, 9), 8, london(2018, 9, 24, 17)),
        # what comes at night or on a Sunday counts from nine
        (london(2018, 9, 24, 3), 1, london(2018, 9, 24, 10)),
        (london(2018, 9, 23, 12), 1, london(2018, 9, 24, 10)),
        (london(2018, 9, 24, 17), 0.5, london(2018, 9, 25, 9, 30)),
        # Good Friday and Easter Monday 2018: from Thursday afternoon to Tuesday
        (london(2018, 3, 29, 16), 2, london(2018, 4, 3, 10)),
        # Christmas 2018: Tuesday and Wednesday are off; New Year's Day too
        (london(2018, 12, 24, 16), 2, london(2018, 12, 27, 10)),
        (london(2018, 12, 31, 16), 9, london(2019, 1, 2, 17)),
        # May Day 2020 was moved from Monday the 4th to Friday the 8th
        (london(2020, 5, 7, 16), 2, london(2020, 5, 11, 10)),
        (london(2020, 5, 1, 16), 2, london(2020, 5, 4, 10)),
        # clocks go forward on 25 March 2018 and back on 28 October 2018
        (london(2018, 3, 23, 13), 16, london(2018, 3, 27, 13)),
        (london(2018, 10, 26, 13), 16, london(2018, 10, 30, 13)),
    ],
)
def test_working_hours_run_from_nine_to_five_on_working_days(start: datetime, hours: float, end: datetime):
    assert after_working_hours(start, hours) == end
    assert working_hours_between(start, end) == hours


def test_no_time_passes_outside_working_hours():
    assert working_hours_between(london(2018, 3, 29, 17), london(2018, 4, 3, 9)) == 0
    assert working_hours_between(london(2018, 9, 24, 12), london(2018, 9, 24, 11)) == 0


def test_scotlands_bank_holidays_are_working_days_in_england():
    assert is_working_day(date(2019, 1, 2))  # a holiday in Scotland
    assert not is_working_day(date(2018, 8, 27))  # the last Monday of August is none there


instants = st.integers(0, 900 * 24 * 60).map(
    lambda minutes: datetime(2017, 12, 1, tzinfo=UTC) + timedelta(minutes=minutes)
)


@given(start=instants, hours=st.integers(1, 200 * 60).map(lambda minutes: minutes / 60))
def test_after_so_many_working_hours_exactly_so_many_have_passed(start: datetime, hours: float):
    end = after_working_hours(start, hours)
    assert working_hours_between(start, end) == pytest.approx(hours, abs=1e-6)
    assert working_hours_between(start, end - timedelta(seconds=1)) < hours


@given(first=instants, second=instants, third=instants)
def test_working_hours_of_two_spans_add_up(first: datetime, second: datetime, third: datetime):
    first, second, third = sorted((first, second, third))
    whole = working_hours_between(first, third)
    assert working_hours_between(first, second) + working_hours_between(second, third) == pytest.approx(whole)
