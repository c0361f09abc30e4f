"""The rules of booking, one sentence each."""

from datetime import timedelta
from time import perf_counter

import pytest

from services.mentoring.domain import Booked, Held, Registered, Unchanged, book, claims, horizon
from tests.unit.mentoring_examples import Diary, asked, at, mentor, openings, starts

MONDAY = at("2018-09-17T08:00")
THURSDAY = "2018-09-20"


def first(*mentors, event=None, now=MONDAY, taken=frozenset(), **options):
    return book(None, event or asked(), openings(*mentors, **options), taken, now)


def test_earliest_time_of_a_mentor_is_booked():
    outcome = first()
    assert isinstance(outcome, Booked)
    assert outcome.meeting.starts == f"{THURSDAY}T10:00"
    assert outcome.meeting.zone == "Europe/London"
    assert outcome.meeting.minutes == 60
    assert outcome.meeting.mentor.address == "ada@mentors.example"
    assert outcome.state.status == "booked"
    assert outcome.state.id == f"{1:032x}"
    assert outcome.state.meeting == outcome.meeting


def test_uid_is_stable_and_sequence_begins_at_nought():
    later = first(now=MONDAY + timedelta(days=30))
    assert first().meeting.uid == later.meeting.uid == f"session-{1:032x}@mentoring.programme.example"
    assert later.meeting.sequence == 0


def test_earliest_mentor_wins_over_a_later_one():
    outcome = first(mentor("ada"), mentor("bea", weekly={"tuesday": ["15:00-16:00"]}))
    assert starts(outcome) == "bea 2018-09-18T15:00"
    assert [(one.slug, one.why_not) for one in outcome.state.considered] == [("ada", "nothing free as early")]


def test_main_need_decides_which_mentors_suit():
    mentors = (
        mentor("ada"),
        mentor("bea", expertise=["financial", "legal"], weekly={"friday": ["09:00-12:00"]}),
    )
    outcome = first(*mentors, event=asked(areas=("financial", "legal")))
    assert starts(outcome) == "bea 2018-09-21T09:00"
    assert outcome.state.considered[0].why_not == "does not advise on finance"
    assert outcome.state.why == "Bea advises on finance and is the first who is free when the mentee is."


def test_request_that_names_no_need_may_meet_any_mentor():
    assert starts(first(mentor("ada"), event=asked(areas=()))) == f"ada {THURSDAY}T10:00"


def test_need_nobody_advises_on_is_held():
    outcome = first(event=asked(areas=("marketing",)))
    assert isinstance(outcome, Held)
    assert (outcome.state.status, outcome.state.reason) == ("held", "no-mentor")
    assert outcome.state.why == "No mentor advises on marketing."
    assert claims(outcome.state) == ()


def test_nobody_mentors_themselves():
    outcome = first(event=asked(mentee="Ada@Mentors.example"))
    assert starts(outcome) == "no-mentor"
    assert outcome.state.considered[0].why_not == "is the one who asks"


def test_peer_network_is_registered_without_a_time():
    outcome = first(event=asked(kind="peer-network"))
    assert isinstance(outcome, Registered)
    assert outcome.state.status == "registered"
    assert outcome.state.meeting is None
    assert claims(outcome.state) == ()


def test_no_time_within_the_horizon_is_held_with_the_dates():
    outcome = first(mentor(instead=[{"day": THURSDAY, "hours": []}]), rules={"horizon_weeks": 1})
    assert starts(outcome) == "no-slot"
    assert outcome.state.why == (
        "No time from Monday 17 September 2018 to Monday 24 September 2018 is free "
        "for both a mentor and the mentee."
    )


def test_days_away_are_passed_over():
    away = [{"first": THURSDAY, "last": "2018-09-27", "why": "holiday"}, {"day": "2018-10-04"}]
    assert starts(first(mentor(away=away))) == "ada 2018-10-11T10:00"


def test_other_hours_on_one_day_replace_the_weekly_ones():
    changed = mentor(instead=[{"day": THURSDAY, "hours": ["14:00-16:00"]}])
    assert starts(first(changed)) == f"ada {THURSDAY}T14:00"


def test_bank_holidays_are_passed_over():
    assert starts(first(mentees={"bank_holidays": [THURSDAY]})) == "ada 2018-09-27T10:00"


def test_mentor_hours_outside_the_mentees_working_hours_are_not_offered():
    early_bird = mentor(
        weekly={"wednesday": ["07:30-09:45"], "thursday": ["15:30-20:00"], "saturday": ["09:00-12:00"]}
    )
    diary = Diary(openings(early_bird))
    assert starts(diary.ask(asked(1), MONDAY)) == f"ada {THURSDAY}T15:30"
    assert starts(diary.ask(asked(2), MONDAY)) == "ada 2018-09-27T15:30"


def test_sessions_of_one_mentor_share_one_buffer():
    diary = Diary(openings())
    booked = [starts(diary.ask(asked(number), MONDAY)) for number in range(3)]
    assert booked == [f"ada {THURSDAY}T10:00", f"ada {THURSDAY}T11:15", "ada 2018-09-27T10:00"]


def test_buffer_is_kept_before_a_session_booked_earlier():
    """The later half of the morning went first: what fits before it must end a buffer earlier."""
    plan = openings(mentor(weekly={"thursday": ["10:00-12:15"]}))
    late = next(group[0] for group in plan.on(at(f"{THURSDAY}T00:00").date()) if group[0].local.hour == 11)
    assert late.local.isoformat() == f"{THURSDAY}T11:00:00"
    assert starts(book(None, asked(), plan, frozenset(late.claims), MONDAY)) == "ada 2018-09-27T10:00"
    quarter_later = next(group[0] for group in plan.on(late.local.date()) if group[0].cell == late.cell + 1)
    outcome = book(None, asked(), plan, frozenset(quarter_later.claims), MONDAY)
    assert starts(outcome) == f"ada {THURSDAY}T10:00"


def test_no_buffer_lets_sessions_touch():
    diary = Diary(openings(rules={"buffer_minutes": 0}))
    booked = [starts(diary.ask(asked(number), MONDAY)) for number in range(3)]
    assert booked == [f"ada {THURSDAY}T{hour}:00" for hour in (10, 11, 12)]


def test_mentee_is_never_in_two_sessions_at_once():
    diary = Diary(openings(mentor("ada"), mentor("bea")))
    one = diary.ask(asked(1, mentee="sam@mutual.example"), MONDAY)
    other = diary.ask(asked(2, mentee=" Sam@Mutual.example"), MONDAY)
    assert [one.meeting.starts, other.meeting.starts] == [f"{THURSDAY}T10:00", f"{THURSDAY}T11:15"]


def test_two_mentors_meet_two_mentees_at_the_same_time():
    diary = Diary(openings(mentor("ada"), mentor("bea")))
    both = {starts(diary.ask(asked(number), MONDAY)) for number in (1, 2)}
    assert both == {f"ada {THURSDAY}T10:00", f"bea {THURSDAY}T10:00"}


def test_equally_early_mentors_are_drawn_by_enquiry():
    mentors = [mentor(slug) for slug in ("ada", "bea", "cyd", "dot")]
    drawn, again = (
        [book(None, asked(number), plan, frozenset(), MONDAY).meeting.mentor_slug for number in range(200)]
        for plan in (openings(*mentors), openings(*reversed(mentors)))
    )
    assert all(30 <= drawn.count(slug) <= 70 for slug in ("ada", "bea", "cyd", "dot"))
    assert drawn == again
    considered = first(*mentors).state.considered
    assert {one.why_not for one in considered} == {"free at the same time, lost the draw"}


def test_mentor_has_no_more_sessions_a_week_than_they_said():
    diary = Diary(openings(mentor(weekly={"thursday": ["09:00-17:00"]}, sessions_per_week=2)))
    days = [diary.ask(asked(number), MONDAY).meeting.starts[:10] for number in range(5)]
    assert days == [THURSDAY] * 2 + ["2018-09-27"] * 2 + ["2018-10-04"]


def test_mentee_has_no_more_sessions_than_the_programme_allows():
    diary = Diary(openings(rules={"allowance": 2}))
    outcomes = [diary.ask(asked(number, mentee="sam@mutual.example"), MONDAY) for number in range(3)]
    assert starts(outcomes[2]) == "allowance-used"
    assert isinstance(diary.ask(asked(4), MONDAY), Booked)


def test_allowance_counts_sessions_of_long_ago():
    diary = Diary(openings(rules={"allowance": 1}))
    diary.ask(asked(1, mentee="sam@mutual.example"), MONDAY)
    a_year_on = MONDAY + timedelta(days=365)
    assert starts(diary.ask(asked(2, mentee="sam@mutual.example"), a_year_on)) == "allowance-used"


@pytest.mark.parametrize(
    ("asked_at", "from_then"),
    [
        ("2018-09-17T10:07", "2018-09-19T10:07"),  # Monday in working hours: Wednesday at the same time
        ("2018-09-17T05:00", "2018-09-19T08:00"),  # before they open: as if at nine
        ("2018-09-17T16:00", "2018-09-20T08:00"),  # 17:00 by the clock, closed: as if on Tuesday at nine
        ("2018-09-21T15:30", "2018-09-25T15:30"),  # Friday afternoon: Tuesday afternoon
        ("2018-09-21T22:00", "2018-09-26T08:00"),  # Friday night and
        ("2018-09-22T10:00", "2018-09-26T08:00"),  # Saturday: as if on Monday at nine
        ("2018-10-26T10:00", "2018-10-30T11:00"),  # over the end of summer time: 11:00 by the clock both days
        ("2018-12-24T10:00", "2018-12-28T10:00"),  # Christmas and Boxing Day are no notice
    ],
)
def test_notice_is_counted_in_working_days(asked_at, from_then):
    plan = openings(
        rules={"notice_working_days": 2}, mentees={"bank_holidays": ["2018-12-25", "2018-12-26"]}
    ).mentors
    assert horizon(at(asked_at), plan)[0] == at(from_then)


def test_session_never_starts_before_the_full_notice():
    now = at("2018-09-18T09:00") + timedelta(seconds=30)  # Tuesday 10:00:30 by the clock in London
    outcome = first(now=now, rules={"notice_working_days": 2})
    assert starts(outcome) == f"ada {THURSDAY}T10:15"


def test_no_session_after_the_last_day():
    plan = openings(rules={"last_day": "2018-09-27"})
    diary = Diary(plan)
    booked = [starts(diary.ask(asked(number), MONDAY)) for number in range(5)]
    assert booked[3:] == ["ada 2018-09-27T11:15", "no-slot"]
    too_late = diary.ask(asked(9), at("2018-10-01T09:00"))
    assert too_late.state.why == "Sessions end on Thursday 27 September 2018, which is too soon for one more."


def test_deciding_twice_gives_the_same_decision():
    assert first() == first()


def test_second_request_for_a_booked_session_changes_nothing():
    session = first().state
    plan = openings()
    for event in (asked(), asked(areas=("marketing",)), asked(kind="peer-network")):
        outcome = book(session, event, plan, frozenset(session.claims), MONDAY)
        assert outcome == Unchanged(session)


def test_registered_mentee_who_then_asks_for_a_mentor_gets_one():
    registered = first(event=asked(kind="peer-network")).state
    plan = openings()
    assert isinstance(book(registered, asked(kind="peer-network"), plan, frozenset(), MONDAY), Unchanged)
    assert isinstance(book(registered, asked(), plan, frozenset(), MONDAY), Booked)


def test_held_request_asked_again_is_booked_once_there_is_a_time():
    held = first(event=asked(areas=("marketing",))).state
    again = asked(areas=("marketing",))
    assert book(held, again, openings(), frozenset(), MONDAY) == Unchanged(held)
    now_there = openings(mentor(expertise=["marketing"]))
    assert isinstance(book(held, again, now_there, frozenset(), MONDAY), Booked)


def test_state_survives_the_way_to_the_database_and_back():
    session = first().state
    assert type(session).model_validate(session.model_dump()) == session


def test_claims_name_no_mentee():
    outcome = first(event=asked(mentee="sam@mutual.example", name="Sam"))
    assert all("sam" not in claim for claim in outcome.state.claims)


def test_booking_into_a_filling_diary_stays_cheap():
    """The middle one of a hundred takes 0.1 ms on a quiet machine; the limit leaves room for a busy one."""
    hours = {day: ["09:00-12:00"] for day in ("monday", "tuesday", "thursday")}
    diary = Diary(openings(*(mentor(slug, weekly=hours) for slug in ("ada", "bea", "cyd", "dot"))))
    took = []
    for number in range(100):
        taken = diary.taken(asked(number), MONDAY)
        began = perf_counter()
        outcome = book(None, asked(number), diary.openings, taken, MONDAY)
        took.append(perf_counter() - began)
        assert isinstance(outcome, Booked)
        assert diary.keep(outcome)
    assert sorted(took)[50] < 0.003
