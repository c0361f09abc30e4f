"""Where an enquiry goes: windows, partners, holding, and deciding again."""

from datetime import UTC, date, datetime, timedelta

import pytest
from bson import BSON
from bson.codec_options import CodecOptions

from services.triage.classify.reading import Guess
from services.triage.domain import Case, Held, Kept, OutOfScope, Routed, Waiting, due, follow_up, route
from services.triage.offers import NOTHING_KNOWN, Matter, Wanted, candidates_for
from services.triage.waiting import reopen
from tests.unit.triage_examples import IN_WINDOW, LEASE, WE_ARE, followed_up, received, the_programme


def decided(text: str = LEASE, subject: str = "Our lease", **changes: object):
    return route(None, received(text, subject, **changes), the_programme(), IN_WINDOW)


def test_a_clear_need_goes_to_the_first_choice_for_it():
    outcome = decided()
    assert isinstance(outcome, Routed)
    assert (outcome.stream, outcome.state.areas[0], outcome.partner.slug) == (
        "advice",
        "legal",
        "bevan-brittan",
    )
    assert outcome.state.decision.why == (
        "It asks for advice on legal, and Bevan Brittan is the first choice for legal "
        "and a member on 24 September 2018."
    )


def test_every_decision_keeps_the_rule_set_and_the_very_words_it_rests_on():
    state = decided().state
    assert state.decision.rules_version == the_programme().rules.version
    legal = [fact for fact in state.decision.facts if fact.rule == "legal" and fact.where == "text"]
    assert {"lease", "solicitor", "landlord"} <= {fact.words for fact in legal}
    assert all(state.text[fact.start : fact.end] == fact.words for fact in legal)


@pytest.mark.parametrize(
    ("accepted", "opens"),
    [
        (datetime(2018, 7, 10, 9, tzinfo=UTC), "the second, opens at 09:00 on Monday 3 September 2018"),
        # 17:00 in London on 5 October is 16:00 UTC: summer time still holds
        (datetime(2018, 10, 5, 16, 0, tzinfo=UTC), "the third, opens at 09:00 on Monday 14 January 2019"),
    ],
)
def test_outside_a_window_it_waits_for_the_next(accepted: datetime, opens: str):
    outcome = decided(accepted_at=accepted)
    assert isinstance(outcome, Waiting)
    assert (outcome.state.status, outcome.state.decision.reason) == ("waiting", "window-closed")
    assert due(outcome.state) == the_programme().opening_after(accepted)
    assert opens in outcome.state.decision.why
    assert outcome.state.decision.guess.areas[0] == "legal"


def test_a_minute_before_closing_it_is_in_time_even_if_decided_later():
    event = received(accepted_at=datetime(2018, 10, 5, 15, 59, tzinfo=UTC))
    outcome = route(None, event, the_programme(), datetime(2018, 10, 5, 18, 0, tzinfo=UTC))
    assert isinstance(outcome, Routed)


OPENING = datetime(2018, 9, 3, 8, tzinfo=UTC)  # nine in London, by summer time


def waiting():
    return decided(accepted_at=datetime(2018, 7, 10, 9, tzinfo=UTC)).state


def test_when_the_window_opens_it_is_routed_and_no_moment_sooner():
    before = waiting()
    assert due(before) == OPENING
    assert reopen(before, the_programme(), OPENING - timedelta(milliseconds=1), NOTHING_KNOWN) == Kept(before)
    outcome = reopen(before, the_programme(), OPENING, NOTHING_KNOWN)
    assert isinstance(outcome, Routed)
    assert (outcome.partner.slug, outcome.state.decision.window) == ("bevan-brittan", "second")
    assert outcome.state.received_at == before.received_at
    assert reopen(outcome.state, the_programme(), OPENING, NOTHING_KNOWN) == Kept(outcome.state)


def test_it_is_in_time_for_its_window_even_if_nobody_looked_until_that_had_closed():
    outcome = reopen(waiting(), the_programme(), datetime(2018, 11, 1, 9, tzinfo=UTC), NOTHING_KNOWN)
    assert isinstance(outcome, Routed)
    assert outcome.state.decision.window == "second"


def test_where_the_window_was_put_off_it_goes_on_waiting():
    programme = the_programme()
    later = programme.model_copy(update={"windows": (programme.windows[0], *programme.windows[2:])})
    outcome = reopen(waiting(), later, OPENING, NOTHING_KNOWN)
    assert isinstance(outcome, Waiting)
    assert due(outcome.state) == datetime(2019, 1, 14, 9, tzinfo=UTC)


def test_the_rules_of_the_day_it_opens_decide_and_what_was_written_meanwhile_stays():
    programme = the_programme()
    newer = programme.model_copy(update={"rules": programme.rules.model_copy(update={"version": "newer"})})
    noted = follow_up(waiting(), followed_up()).state
    assert noted.status == "waiting"
    outcome = reopen(noted, newer, OPENING, NOTHING_KNOWN)
    assert outcome.state.decision.rules_version == "newer"
    assert outcome.state.follow_ups == noted.follow_ups


def test_after_the_last_window_it_is_held_and_says_that_none_will_open():
    outcome = decided(accepted_at=datetime(2020, 3, 20, 9, tzinfo=UTC))
    assert isinstance(outcome, Held)
    assert due(outcome.state) is None
    assert outcome.state.decision.why.endswith("none will open again.")


def test_harm_to_people_is_held_as_safeguarding_when_no_window_is_open():
    text = "A child is being abused at our unit and nobody acts. Who do I tell?"
    outcome = decided(text, "please read", accepted_at=datetime(2018, 7, 10, 9, tzinfo=UTC))
    assert isinstance(outcome, Held)
    assert (outcome.state.decision.reason, outcome.state.decision.urgency) == ("safeguarding", "urgent")


def test_the_same_event_again_gives_the_same_outcome_whatever_the_time():
    first = decided()
    again = route(first.state, received(), the_programme(), datetime(2019, 12, 1, tzinfo=UTC))
    assert again == first


def test_another_event_about_a_decided_case_changes_nothing():
    first = decided()
    assert route(first.state, received(event_id="event-2"), the_programme(), IN_WINDOW) == Kept(first.state)


def leaving(slug: str, last: date):
    programme = the_programme()
    partners = tuple(
        partner.model_copy(update={"member_to": last}) if partner.slug == slug else partner
        for partner in programme.partners
    )
    return programme.model_copy(update={"partners": partners})


def test_a_partner_that_has_left_is_passed_over_and_the_fallback_takes_it():
    outcome = route(None, received(), leaving("bevan-brittan", date(2018, 9, 23)), IN_WINDOW)
    assert isinstance(outcome, Routed)
    assert outcome.partner.slug == "bwb"
    assert [candidate.outcome for candidate in outcome.state.decision.candidates] == [
        "not-a-member",
        "chosen",
    ]
    assert "23 September 2018" in outcome.state.decision.candidates[0].why


def test_a_partner_is_a_member_on_its_last_day():
    outcome = route(None, received(), leaving("bevan-brittan", date(2018, 9, 24)), IN_WINDOW)
    assert isinstance(outcome, Routed)
    assert outcome.partner.slug == "bevan-brittan"


def test_with_no_member_left_for_the_need_it_is_held():
    programme = leaving("bevan-brittan", date(2018, 2, 1))
    partners = tuple(
        partner.model_copy(update={"member_to": date(2018, 2, 1)}) if partner.slug == "bwb" else partner
        for partner in programme.partners
    )
    outcome = route(None, received(), programme.model_copy(update={"partners": partners}), IN_WINDOW)
    assert isinstance(outcome, Held)
    assert outcome.state.decision.reason == "no-partner"


@pytest.mark.parametrize(
    ("guess", "first", "fallback"),
    [
        (Guess(disposition="route", stream="advice", areas=("legal",)), "bevan-brittan", "bwb"),
        (
            Guess(disposition="route", stream="advice", areas=("financial", "legal")),
            "baxendale",
            "mutual-ventures",
        ),
        (Guess(disposition="route", stream="advice", areas=("marketing",)), "mutual-ventures", "baxendale"),
        (
            Guess(disposition="route", stream="advice", areas=("human-resources",)),
            "baxendale",
            "bevan-brittan",
        ),
        (
            Guess(disposition="route", stream="advice", areas=("business-planning",)),
            "mutual-ventures",
            "baxendale",
        ),
        (
            Guess(disposition="route", stream="pilot", pilot_theme="partnership-working"),
            "bwb",
            "mutual-ventures",
        ),
        (
            Guess(disposition="route", stream="pilot", pilot_theme="service-broadening"),
            "mutual-ventures",
            "bwb",
        ),
        (Guess(disposition="route", stream="advice", mentoring="one-to-one"), "mutual-ventures", "baxendale"),
    ],
)
def test_the_main_need_chooses_the_partners(guess: Guess, first: str, fallback: str):
    candidates = candidates_for(Wanted(guess, Matter("a@b.example", "")), the_programme(), IN_WINDOW)
    assert [candidate.slug for candidate in candidates] == [first, fallback]
    assert [candidate.outcome for candidate in candidates] == ["chosen", "not-needed"]


def test_what_a_machine_sent_is_kept_aside_with_its_text():
    outcome = decided("I am on annual leave until Monday with no access to email.", "Automatic reply: hello")
    assert isinstance(outcome, OutOfScope)
    assert (outcome.disposition, outcome.state.decision.reason) == ("auto", "automatic")
    assert outcome.state.text.startswith("I am on annual leave")


def test_a_need_that_is_barely_stated_is_held_with_the_best_guess():
    outcome = decided(WE_ARE + "We wonder about pricing, or perhaps the lease, or the staff rota.", "")
    assert isinstance(outcome, Held)
    assert outcome.state.decision.reason == "unsure"
    assert outcome.state.decision.guess.disposition == "route"


def test_a_case_survives_storage_as_bson():
    state = decided().state
    stored = BSON.encode(state.model_dump()).decode(CodecOptions(tz_aware=True, tzinfo=UTC))
    assert Case.model_validate(stored) == state


def test_the_text_is_stored_once():
    text = LEASE + " x" * 5_000
    assert len(BSON.encode(decided(text).state.model_dump())) < 2 * len(text)
