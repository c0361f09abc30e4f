"""The mentors file: the one we ship is good, and a bad one says what is wrong and where."""

from datetime import date
from pathlib import Path
from typing import get_args

import pytest
import yaml

from services.mentoring.domain import Booked, book
from services.mentoring.mentors import MentorsFileError, load_mentors
from services.mentoring.openings import Openings
from shared.contracts.triage import Area
from tests.unit.mentoring_examples import MENTEES, RULES, Diary, asked, at, mentor

SHIPPED = Path(__file__).parents[2] / "deploy/programme/mentors.yaml"


def problems(tmp_path: Path, **changes) -> str:
    content = {"rules": RULES, "mentees": MENTEES, "mentors": [mentor()], **changes}
    return problems_of(tmp_path, yaml.safe_dump(content))


def problems_of(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mentors.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(MentorsFileError) as raised:
        load_mentors(path)
    assert str(raised.value).startswith(str(path))
    return str(raised.value).removeprefix(str(path))


def test_shipped_file_has_mentors_for_every_area():
    mentors = load_mentors(SHIPPED)
    assert len(mentors.mentors) == 8
    for area in get_args(Area):
        assert sum(area in one.expertise for one in mentors.mentors) >= 2, area
    assert {one.zone.key for one in mentors.mentors} == {"Europe/London", "Europe/Dublin", "Europe/Paris"}


def test_shipped_file_names_nobody_real():
    assert all(one.address.endswith(".example") for one in load_mentors(SHIPPED).mentors)


def test_shipped_file_has_every_bank_holiday_of_the_programme():
    holidays = load_mentors(SHIPPED).mentees.bank_holidays
    for year in (2018, 2019, 2020):
        assert sum(day.year == year for day in holidays) == 8
    assert all(day.weekday() < 5 for day in holidays)
    assert date(2020, 5, 8) in holidays
    assert date(2020, 5, 4) not in holidays


@pytest.mark.parametrize(
    "day", ["2018-01-15", "2018-08-20", "2018-09-14", "2018-12-20", "2019-08-05", "2020-02-20"]
)
def test_shipped_file_finds_a_mentor_for_every_need_all_year_round(day):
    plan = Openings(load_mentors(SHIPPED))
    for area in get_args(Area):
        assert isinstance(book(None, asked(areas=(area,)), plan, frozenset(), at(f"{day}T09:00")), Booked), (
            area
        )


def test_shipped_file_has_room_for_two_hundred_sessions_in_eight_weeks():
    diary = Diary(Openings(load_mentors(SHIPPED)))
    areas = get_args(Area)
    now = at("2018-09-14T09:00")
    outcomes = [diary.ask(asked(number, areas=(areas[number % 5],)), now) for number in range(200)]
    assert all(isinstance(outcome, Booked) for outcome in outcomes)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(MentorsFileError, match=r"nowhere\.yaml: cannot be read: No such file"):
        load_mentors(tmp_path / "nowhere.yaml")


def test_file_that_is_not_yaml_says_where(tmp_path):
    assert "line 2" in problems_of(tmp_path, "rules: {\nmentors: ]")


def test_empty_file_is_an_error(tmp_path):
    assert "the file:" in problems_of(tmp_path, "")


def test_key_given_twice_is_an_error(tmp_path):
    assert "'monday' is given twice" in problems_of(tmp_path, "monday: [1]\nmonday: [2]\n")


def test_key_that_is_no_text_is_an_error(tmp_path):
    assert "a key must be text" in problems_of(tmp_path, "? [a, b]\n: 1\n")


def test_problem_is_named_by_place_and_slug(tmp_path):
    text = problems(tmp_path, mentors=[mentor(), mentor("bea", weekly={"monday": ["9-12"]})])
    assert "mentors[1] (bea).weekly.monday[0]: '9-12' is not HH:MM-HH:MM" in text


def test_every_problem_is_told_at_once(tmp_path):
    wrong = mentor(zone="Europe/Londn", expertise=["law"], colour="red")
    text = problems(tmp_path, mentors=[wrong])
    assert "3 problem(s)" in text
    for place in ("(ada).zone", "(ada).expertise[0]", "(ada).colour"):
        assert place in text


@pytest.mark.parametrize(
    ("weekly", "complaint"),
    [
        (["12:00-09:00"], "the end is not after the start"),
        (["22:00-02:00"], "write hours that pass midnight as two days"),
        (["09:10-12:00"], "multiple of 15"),
        (["09:00-12:00", "11:00-13:00"], "09:00-12:00 and 11:00-13:00 overlap"),
        (["09:00-12:00", "12:00-13:00"], "write them as one"),
        (["09:00-09:30"], "too short for a session of 60 minutes"),
    ],
)
def test_hours_that_make_no_sense_are_errors(tmp_path, weekly, complaint):
    assert complaint in problems(tmp_path, mentors=[mentor(weekly={"monday": weekly})])


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"weekly": {"mondey": ["09:00-12:00"]}}, "mondey"),
        ({"away": [{"first": "2018-08-20", "last": "2018-08-06"}]}, "the last day is before the first"),
        ({"away": [{"day": "2018-02-30"}]}, "away[0].first"),
        ({"instead": [{"day": "2018-08-20", "hours": []}] * 2}, "two sets of hours instead on 2018-08-20"),
        ({"address": "Ada <ada@mentors.example>"}, "(ada).address"),
        ({"address": "ada@mentors.example\nBcc: all@mutual.example"}, "(ada).address"),
        ({"name": "Ada\r\nBcc: all@mutual.example"}, "(ada).name"),
        ({"where": "Here\nATTENDEE:x"}, "(ada).where"),
        ({"slug": "Ada L"}, ".slug"),
        ({"sessions_per_week": 0}, "(ada).sessions_per_week"),
    ],
)
def test_mentor_that_makes_no_sense_is_an_error(tmp_path, given, complaint):
    assert complaint in problems(tmp_path, mentors=[mentor(**given)])


def test_two_mentors_of_one_slug_or_address_are_an_error(tmp_path):
    text = problems(tmp_path, mentors=[mentor(), mentor(address="Other@mentors.example")])
    assert "two mentors have the slug 'ada'" in text
    text = problems(tmp_path, mentors=[mentor(), mentor("bea", address="ADA@mentors.example")])
    assert "two mentors have the address 'ada@mentors.example'" in text


def test_year_without_bank_holidays_is_an_error(tmp_path):
    text = problems(
        tmp_path,
        rules={**RULES, "last_day": "2020-03-31"},
        mentees={**MENTEES, "bank_holidays": ["2018-12-25", "2019-12-25"]},
    )
    assert "no bank holidays for 2020, though sessions run to 2020-03-31" in text
