"""The mentors file: who advises on what, when they are free, and the programme's rules about sessions.

Hours are wall time in each mentor's own zone, so "Tuesday at ten" stays at ten when the clocks change.
"""

import re
from collections.abc import Hashable
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from shared.contracts.cloudevents import EmailAddress
from shared.contracts.triage import Area

GRID_MINUTES = 15
"""Sessions, buffers and hours are whole multiples of this; every zone's offset from UTC today is one too."""

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
Day = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+$", max_length=60)]
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f\u0085\u2028\u2029]+$", max_length=200)]
"""One line of text: it goes into mail headers and calendars, where a line break would start a new one."""
Address = Annotated[EmailAddress, StringConstraints(pattern=r"^[^\s@<>,;:\"()\x00-\x20]+@[^\s@<>,;:\"()]+$")]
Quarters = Annotated[int, Field(ge=0, le=480, multiple_of=GRID_MINUTES)]

_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]|24):([0-5]\d)")


class MentorsFileError(Exception):
    """The mentors file cannot be used. The text names the file and, one a line, what is wrong and where."""


class _Strict(BaseModel):
    """A part of the file. Unknown keys are errors: a misspelt `exeptions` must not double-book a holiday."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Hours(_Strict):
    """A stretch of one day, in minutes after midnight by the wall clock; `until` is the minute it ends."""

    start: Annotated[int, Field(ge=0, lt=1440, multiple_of=GRID_MINUTES)]
    until: Annotated[int, Field(gt=0, le=1440, multiple_of=GRID_MINUTES)]

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        found = _HOURS.fullmatch(given)
        if found is None:
            raise ValueError(f"{given!r} is not HH:MM-HH:MM")
        from_hour, from_minute, to_hour, to_minute = map(int, found.groups())
        return {"start": from_hour * 60 + from_minute, "until": to_hour * 60 + to_minute}

    @model_validator(mode="after")
    def _forwards(self) -> "Hours":
        if self.until <= self.start:
            raise ValueError("the end is not after the start (write hours that pass midnight as two days)")
        return self

    def __str__(self) -> str:
        return f"{self.start // 60:02}:{self.start % 60:02}-{self.until // 60:02}:{self.until % 60:02}"


def _apart(hours: tuple[Hours, ...]) -> tuple[Hours, ...]:
    ordered = tuple(sorted(hours, key=lambda one: one.start))
    for earlier, later in pairwise(ordered):
        if later.start <= earlier.until:
            raise ValueError(f"{earlier} and {later} overlap or touch: write them as one")
    return ordered


class Away(_Strict):
    """Days off, first and last day included, by the calendar where the mentor is."""

    first: date
    last: date
    why: Line = "away"

    @model_validator(mode="before")
    @classmethod
    def _one_day(cls, given: Any) -> Any:
        if isinstance(given, dict) and "day" in given:
            rest = {key: value for key, value in given.items() if key != "day"}
            return {**rest, "first": given["day"], "last": given["day"]}
        return given

    @model_validator(mode="after")
    def _forwards(self) -> "Away":
        if self.last < self.first:
            raise ValueError("the last day is before the first")
        return self


class Instead(_Strict):
    """Other hours than the weekly ones on one day; no hours at all means a day off."""

    day: date
    hours: tuple[Hours, ...]

    _hours_apart = field_validator("hours")(_apart)


class Mentor(_Strict):
    """Somebody with experience to share. `sessions_per_week` counts from Monday, where the mentor is."""

    slug: Slug
    name: Line
    address: Address
    zone: ZoneInfo
    expertise: Annotated[tuple[Area, ...], Field(min_length=1)]
    weekly: Annotated[dict[Day, tuple[Hours, ...]], Field(min_length=1)]
    away: tuple[Away, ...] = ()
    instead: tuple[Instead, ...] = ()
    sessions_per_week: Annotated[int, Field(ge=1, le=40)]
    where: Line

    @field_validator("weekly")
    @classmethod
    def _weekly_apart(cls, weekly: dict[Day, tuple[Hours, ...]]) -> dict[Day, tuple[Hours, ...]]:
        return {day: _apart(hours) for day, hours in weekly.items()}

    @model_validator(mode="after")
    def _one_rule_a_date(self) -> "Mentor":
        dates = [other.day for other in self.instead]
        if twice := sorted({day for day in dates if dates.count(day) > 1}):
            raise ValueError(f"two sets of hours instead on {twice[0]}")
        return self

    def hours_on(self, day: date) -> tuple[Hours, ...]:
        """The stretches the mentor is free on a date of their own calendar, earliest first."""
        if any(away.first <= day <= away.last for away in self.away):
            return ()
        for other in self.instead:
            if other.day == day:
                return other.hours
        # `get` by name: mypy sees a plain string, the validated keys are exactly these names.
        return self.weekly.get(DAYS[day.weekday()], ())  # type: ignore[call-overload,no-any-return]


class Rules(_Strict):
    """What every session keeps to.

    `buffer_minutes` is the least time between two sessions of one person. `notice_working_days` are counted
    on the mentees' calendar. `allowance` is the most sessions one mentee gets from the programme.
    """

    minutes: Annotated[int, Field(gt=0, le=480, multiple_of=GRID_MINUTES)]
    buffer_minutes: Quarters
    notice_working_days: Annotated[int, Field(ge=0, le=30)]
    horizon_weeks: Annotated[int, Field(ge=1, le=26)]
    allowance: Annotated[int, Field(ge=1, le=100)]
    last_day: date | None = None
    uid_domain: Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]+$", min_length=1, max_length=200)]


class Mentees(_Strict):
    """When the people who ask can be met: the same working hours for all, until they are asked."""

    zone: ZoneInfo
    days: Annotated[tuple[Day, ...], Field(min_length=1)]
    hours: Hours
    bank_holidays: frozenset[date]

    def works_on(self, day: date) -> bool:
        return DAYS[day.weekday()] in self.days and day not in self.bank_holidays


class Mentors(_Strict):
    """The whole file."""

    rules: Rules
    mentees: Mentees
    mentors: Annotated[tuple[Mentor, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits_together(self) -> "Mentors":
        wrong: list[str] = []
        for what in ("slug", "address"):
            seen: set[str] = set()
            for mentor in self.mentors:
                value = str(getattr(mentor, what)).casefold()
                if value in seen:
                    wrong.append(f"two mentors have the {what} {value!r}")
                seen.add(value)
        for mentor in self.mentors:
            stretches = [one for hours in mentor.weekly.values() for one in hours]
            stretches += [one for other in mentor.instead for one in other.hours]
            wrong += [
                f"{mentor.slug}: {one} is too short for a session of {self.rules.minutes} minutes"
                for one in stretches
                if one.until - one.start < self.rules.minutes
            ]
        # A year nobody entered the bank holidays of would book people on Christmas Day.
        if self.rules.last_day and self.mentees.bank_holidays:
            years = {day.year for day in self.mentees.bank_holidays}
            wrong += [
                f"no bank holidays for {year}, though sessions run to {self.rules.last_day}"
                for year in range(min(years), self.rules.last_day.year + 1)
                if year not in years
            ]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


class _Loader(yaml.SafeLoader):
    """YAML where a key given twice is an error; PyYAML would keep the last and lose a mentor's Mondays."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | date):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
            if key in seen:
                at = key_node.start_mark
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", at)
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_mentors(path: Path) -> Mentors:
    """Read and check the mentors file. Raises `MentorsFileError`, its text meant for whoever edits it."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 — a SafeLoader
    except OSError as error:
        raise MentorsFileError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise MentorsFileError(f"{path}: is not YAML: {error}") from error
    try:
        return Mentors.model_validate(content)
    except ValidationError as error:
        found = error.errors()
        places = [one["loc"] for one in found]
        # A list whose only item is wrong is called too short as well: noise for whoever mends the item.
        followed = {place[:length] for place in places for length in range(len(place))}
        lines = [
            f"  {_place(content, one['loc'])}: {_message(one)}"
            for one in found
            if not (one["type"] == "too_short" and one["loc"] in followed)
        ]
        raise MentorsFileError("\n".join([f"{path}: {len(lines)} problem(s)", *lines])) from error


def _place(content: Any, where: tuple[int | str, ...]) -> str:
    """`mentors[2] (ines-caldeira).weekly.monday[0]`: an index means little in a file of forty mentors."""
    if not where:
        return "the file"
    text = ""
    for step in where:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
        try:
            content = content[step]
        except (KeyError, IndexError, TypeError):
            content = None
        if isinstance(content, dict) and isinstance(content.get("slug"), str):
            text += f" ({content['slug']})"
    return text


def _message(error: Any) -> str:
    text = str(error["msg"]).removeprefix("Value error, ")
    return text if error["type"] in ("missing", "value_error") else f"{text} (given: {error['input']!r:.80})"
