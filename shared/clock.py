"""The clock every service is given, so that a rehearsal can run in September 2018."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]
"""Gives the present instant, in UTC, to the millisecond (what the database keeps)."""


def clock(offset: timedelta = timedelta(0)) -> Clock:
    """A clock that runs at the usual speed, `offset` away from the machine's own."""

    def now() -> datetime:
        instant = datetime.now(UTC) + offset
        return instant.replace(microsecond=instant.microsecond // 1000 * 1000)

    return now
