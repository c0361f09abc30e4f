"""The programme file: what it must hold, and how its faults are told."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.triage.programme import ProgrammeError, load_programme, parse_programme
from tests.unit.triage_examples import PROGRAMME_FILE, the_programme

WRITTEN = PROGRAMME_FILE.read_text(encoding="utf-8")


def fault(old: str, new: str) -> str:
    assert old in WRITTEN
    with pytest.raises(ProgrammeError) as raised:
        parse_programme(WRITTEN.replace(old, new, 1), "programme.yaml")
    return str(raised.value)


def line_of(words: str) -> int:
    return WRITTEN[: WRITTEN.index(words)].count("\n") + 1


def test_the_envelopes_are_those_announced():
    streams = the_programme().streams
    assert (streams.advice.envelope, streams.pilot.envelope) == (1_200_000, 500_000)


@pytest.mark.parametrize(
    ("moment", "name"),
    [
        (datetime(2018, 6, 29, 15, 59, 59, tzinfo=UTC), "first"),
        (datetime(2018, 6, 29, 16, 0, tzinfo=UTC), None),
        (datetime(2018, 9, 24, 9, 0, tzinfo=UTC), "second"),
        (datetime(2018, 10, 5, 16, 0, tzinfo=UTC), None),
        (datetime(2020, 2, 28, 16, 59, tzinfo=UTC), "sixth"),  # winter: London is on UTC
    ],
)
def test_windows_close_by_the_clock_in_london(moment: datetime, name: str | None):
    window = the_programme().window_at(moment)
    assert (window.name if window else None) == name


@pytest.mark.parametrize(
    ("old", "new", "place", "said"),
    [
        (
            'closes: "2018-06-29T17:00"',
            'closes: "2018-01-29T17:00"',
            "- {name: first",
            "closes before it opens",
        ),
        ("envelope: 500000", "envelope: -5", "envelope: 500000", "greater than 0"),
        ("capacity_days: 400", "capacity_weeks: 400", "capacity_days: 400", "capacity_weeks"),
        ("asked: 3.0", "asked: often", "asked: 3.0", "valid number"),
    ],
)
def test_a_fault_is_told_with_its_line(old: str, new: str, place: str, said: str):
    message = fault(old, new)
    assert f"programme.yaml:{line_of(place)}:" in message
    assert said in message


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("legal: [bevan-brittan, bwb]", "legal: [bevan-britten, bwb]", "unknown partner bevan-britten"),
        ("slug: bwb", "slug: baxendale", "baxendale twice"),
        ("zone: Europe/London", "zone: Europe/Londinium", "not a known time zone"),
        ("mentoring: [mutual-ventures, baxendale]", "legal: [bwb]", "given twice"),
        (
            '{name: second, opens: "2018-09-03',
            '{name: second, opens: "2018-03-03',
            "before 'first' has closed",
        ),
        ("left ~6 {body}", "left ~6 {bodies}", "unknown list 'bodies'"),
        ("left ~6 {body}", "~6 left", "begins with a gap"),
        ("charity-body, joint-work]", "charity-bodies, joint-work]", "unknown ingredient"),
        ("name: Mutuals Support Programme", "name: [", "not YAML"),
    ],
)
def test_what_does_not_fit_together_is_told(old: str, new: str, said: str):
    assert said in fault(old, new)


def test_a_missing_file_is_told_by_its_name(tmp_path: Path):
    with pytest.raises(ProgrammeError, match=r"absent\.yaml: cannot be read"):
        load_programme(tmp_path / "absent.yaml")
