"""Working time in England: nine to five in London, Monday to Friday, without bank holidays.

Clocks change at night on Sundays, so a working day has eight hours in every week of the year; what lies
between two of them is counted in UTC.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from holidays import HolidayBase

LONDON = ZoneInfo("Europe/London")
FROM, TO = time(9), time(17)
SATURDAY = 5


@cache
def _bank_holidays() -> "HolidayBase":
    """The library knows the proclaimed days too, such as May Day moved to a Friday in 2020. It takes a second to
    import, which a service need not wait for when it starts."""
    from holidays import country_holidays  # noqa: PLC0415

    return country_holidays("GB", subdiv="ENG")


def is_working_day(day: date) -> bool:
    """Whether `day` is one from Monday to Friday and no bank holiday in England."""
    return day.weekday() < SATURDAY and day not in _bank_holidays()


def working_hours_between(start: datetime, end: datetime) -> float:
    """The working hours from `start` to `end`, both aware; none where `end` is not after `start`."""
    spent = timedelta(0)
    for opens, closes in _days(start):
        if opens >= end:
            break
        spent += max(min(closes, end) - max(opens, start), timedelta(0))
    return spent / timedelta(hours=1)


def after_working_hours(start: datetime, hours: float) -> datetime:
    """The earliest instant at which `hours` working hours have passed since `start` (aware), in UTC and in
    whole milliseconds, which is what the database keeps. It is a day's end rather than the next day's start."""
    left = timedelta(milliseconds=round(hours * 3_600_000))
    if left <= timedelta(0):
        return start.astimezone(UTC)
    for opens, closes in _days(start):
        begins = max(opens, start)
        if begins < closes and begins + left <= closes:
            return begins + left
        left -= max(closes - begins, timedelta(0))
    raise AssertionError("days do not end")


def _days(start: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Begin and end, in UTC, of every working day from that of `start` on."""
    day = start.astimezone(LONDON).date()
    while True:
        if hours := _hours_of(day):
            yield hours
        day += timedelta(days=1)


@lru_cache(maxsize=1_000)  # asked for every offer, of the same few days
def _hours_of(day: date) -> tuple[datetime, datetime] | None:
    if not is_working_day(day):
        return None
    return (
        datetime.combine(day, FROM, LONDON).astimezone(UTC),
        datetime.combine(day, TO, LONDON).astimezone(UTC),
    )
