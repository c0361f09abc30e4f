"""What operators decide about a case, what it does to offers, and when it is refused."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from bson import BSON
from bson.codec_options import CodecOptions

from services.triage.answers import accept, decline
from services.triage.classify.reading import Guess
from services.triage.domain import Case, Held, OutOfScope, Refused, Routed, Ruled, due, route
from services.triage.events import announce
from services.triage.explaining import explained
from services.triage.offers import NOTHING_KNOWN, Conflict, Standing
from services.triage.rulings import (
    By,
    Directions,
    close,
    merge,
    recover,
    reopen,
    route_by_hand,
    set_aside,
)
from shared.store.cause import Cause
from tests.unit.triage_examples import IN_WINDOW, received, the_programme

LATER = IN_WINDOW + timedelta(hours=2)
FINANCE = Directions(Guess(disposition="route", stream="advice", areas=("financial",)))


def case_of(text: str | None = None, **changes: Any) -> Case:
    event = received(**changes) if text is None else received(text, "Mutuals", **changes)
    return route(None, event, the_programme(), IN_WINDOW).state


def held() -> Case:
    return case_of("Please send details.")


def offered() -> Case:
    return case_of()


def accepted() -> Case:
    case = offered()
    assert case.offer
    return accept(case, case.offer.id, case.offer.partner, by="Priya", days=None, now=LATER).state


def aside() -> Case:
    outcome = route(None, received("Please find my CV attached.", "Vacancy"), the_programme(), IN_WINDOW)
    assert isinstance(outcome, OutOfScope)
    return outcome.state


def by(case: Case) -> By:
    return By("Ada Obi", "read it twice", LATER, case.revision)


def by_hand(case: Case, directions: Directions = FINANCE, standing: Standing = NOTHING_KNOWN):
    return route_by_hand(case, directions, by(case), the_programme(), standing)


def said(outcome: Any) -> list[str]:
    enquiry = outcome.state.enquiry_id
    return [event.routing_key for event in announce(outcome, Cause("m", enquiry, enquiry, LATER))]


def test_a_held_case_is_offered_where_the_operator_says_and_that_is_kept_to_learn_from():
    before = held()
    outcome = by_hand(before)
    assert isinstance(outcome, Routed)
    state = outcome.state
    assert (state.status, outcome.partner.slug, state.areas) == ("routed", "baxendale", ("financial",))
    assert (state.revision, outcome.first, state.correction) == (before.revision + 1, True, FINANCE.guess)
    assert state.decision.why.startswith("Ada Obi sent it to advice: financial, and Baxendale is the first")
    assert [(one.who, one.what, one.why) for one in state.rulings] == [("Ada Obi", "route", "read it twice")]
    assert state.decision.guess == before.decision.guess, "what triage made of it is still on record"
    assert said(outcome) == ["enquiry.routed.v1.baxendale"]


@pytest.mark.parametrize("make", [offered, accepted])
def test_a_case_that_is_out_is_taken_back_and_offered_anew(make: Any):
    outcome = by_hand(make())
    assert isinstance(outcome, Routed)
    assert [(offer.partner, offer.state) for offer in outcome.state.offers] == [
        ("bevan-brittan", "withdrawn"),
        ("baxendale", "open"),
    ]
    assert said(outcome) == ["offer.ended.v1.bevan-brittan", "enquiry.routed.v1.baxendale"]


def test_by_name_a_partner_is_asked_that_does_not_serve_the_need():
    outcome = by_hand(held(), Directions(FINANCE.guess, partner="bwb"))
    assert isinstance(outcome, Routed) and outcome.partner.slug == "bwb"


def test_who_declined_is_not_asked_again_not_even_by_name():
    case = offered()
    assert case.offer
    said_no = decline(
        case,
        case.offer.id,
        "bevan-brittan",
        by="P",
        reason="other",
        words="",
        programme=the_programme(),
        now=LATER,
        standing=NOTHING_KNOWN,
    ).state
    outcome = by_hand(said_no, Directions(FINANCE.guess, partner="bevan-brittan"))
    assert isinstance(outcome, Refused) and "declined" in outcome.why


def test_who_has_a_conflict_is_not_asked_not_even_by_name():
    conflict = Conflict(
        partner="bwb", domain="example.com", why="acts for them", who="Ada", starts=date(2018, 1, 1)
    )
    standing = Standing({}, (conflict,))
    outcome = by_hand(held(), Directions(FINANCE.guess, partner="bwb"), standing)
    assert isinstance(outcome, Refused) and "conflict of interest" in outcome.why


@pytest.mark.parametrize(
    "directions",
    [
        Directions(Guess(disposition="route", stream="pilot")),
        Directions(
            Guess(disposition="route", stream="pilot", pilot_theme="partnership-working", areas=("legal",))
        ),
        Directions(Guess(disposition="route", stream="advice")),
        Directions(
            Guess(disposition="route", stream="advice", areas=("legal",), pilot_theme="partnership-working")
        ),
        Directions(FINANCE.guess, partner="nobody"),
    ],
)
def test_directions_that_make_no_sense_are_refused(directions: Directions):
    outcome = by_hand(held(), directions)
    assert isinstance(outcome, Refused) and outcome.code == "not-possible"


def test_what_has_changed_meanwhile_is_not_decided_on():
    case = held()
    stale = By("Ada Obi", "in a hurry", LATER, case.revision + 1)
    for outcome in (
        route_by_hand(case, FINANCE, stale, the_programme(), NOTHING_KNOWN),
        set_aside(case, "auto", stale),
        close(case, "other", stale),
        merge(case, offered(), stale),
    ):
        assert isinstance(outcome, Refused) and outcome.code == "changed"
        assert outcome.state is case and said(outcome) == []


def test_what_was_set_aside_by_mistake_is_recovered_and_can_be_routed():
    back = recover(aside(), by(aside()))
    assert isinstance(back, Ruled)
    assert (back.state.status, back.state.disposition) == ("held", "review")
    assert isinstance(by_hand(back.state), Routed)
    assert isinstance(recover(held(), by(held())), Refused)


def test_what_was_offered_by_mistake_is_set_aside_and_the_partner_is_told():
    outcome = set_aside(offered(), "out-of-scope", by(offered()))
    assert isinstance(outcome, Ruled)
    assert (outcome.state.status, outcome.state.disposition, outcome.state.days) == (
        "held",
        "out-of-scope",
        0,
    )
    assert said(outcome) == ["offer.ended.v1.bevan-brittan"]


def test_a_later_case_becomes_part_of_the_earlier_and_never_the_other_way_round():
    earlier = offered()
    event = received(accepted_at=LATER).model_copy(update={"correlationid": "f" * 32})
    later = route(None, event, the_programme(), IN_WINDOW).state
    outcome = merge(later, earlier, by(later))
    assert isinstance(outcome, Ruled)
    assert (outcome.state.status, outcome.state.merged_into) == ("merged", earlier.enquiry_id)
    assert said(outcome) == ["offer.ended.v1.bevan-brittan"], "told once"
    assert isinstance(merge(earlier, later, by(earlier)), Refused)
    assert isinstance(merge(earlier, earlier, by(earlier)), Refused)
    assert isinstance(merge(later, outcome.state, by(later)), Refused)
    back = reopen(outcome.state, by(outcome.state))
    assert isinstance(back, Ruled) and (back.state.status, back.state.merged_into) == ("held", None)


def test_a_completed_case_keeps_its_partner_who_need_not_be_told_and_frees_its_capacity():
    outcome = close(accepted(), "completed", by(accepted()))
    assert isinstance(outcome, Ruled)
    assert (outcome.state.status, outcome.state.outcome, outcome.state.days) == ("closed", "completed", 0)
    assert outcome.state.partner and said(outcome) == []


@pytest.mark.parametrize("make", [offered, accepted])
def test_a_case_closed_for_another_reason_is_taken_from_its_partner(make: Any):
    outcome = close(make(), "enquirer-withdrew", by(make()))
    assert isinstance(outcome, Ruled)
    assert said(outcome) == ["offer.ended.v1.bevan-brittan"]
    assert isinstance(by_hand(outcome.state), Refused), "it has to be reopened first"
    back = reopen(outcome.state, by(outcome.state))
    assert isinstance(back, Ruled) and isinstance(by_hand(back.state), Routed)


def test_every_decision_is_on_record_and_survives_storage():
    case = held()
    case = by_hand(case).state
    case = close(case, "no-answer", by(case)).state
    case = reopen(case, by(case)).state
    assert [one.what for one in case.rulings] == ["route", "close", "reopen"]
    stored = BSON.encode(case.model_dump()).decode(CodecOptions(tz_aware=True, tzinfo=UTC))
    assert Case.model_validate(stored) == case


def test_an_explanation_names_rules_words_partners_offers_and_people():
    case = by_hand(accepted()).state
    told = explained(case)
    for words in (
        "MSP-7F3K-2Q is offered to Baxendale (revision 3).",
        f"by rules {the_programme().rules.version}",
        "'solicitor'",
        "baxendale (chosen): the first choice for financial",
        "1. to bevan-brittan, 3 days, 24 Sep 2018 10:30: withdrawn by Ada Obi",
        "2. to baxendale",
        "Ada Obi: route to advice: financial (read it twice)",
        "Taken by triage for: route: advice, legal",
    ):
        assert words in told, told


def test_a_case_that_waits_for_its_window_can_be_decided_about_now():
    waiting = case_of(accepted_at=datetime(2018, 7, 10, 9, tzinfo=UTC))
    assert waiting.status == "waiting"
    assert isinstance(by_hand(waiting), Routed)
    closed = close(waiting, "enquirer-withdrew", by(waiting))
    assert isinstance(closed, Ruled) and due(closed.state) is None


def test_an_explanation_of_what_is_held_says_so():
    assert "is held" in explained(held())
    assert "set aside as out-of-scope" in explained(aside())


def test_nobodys_words_can_pretend_to_be_a_line_of_ours():
    case = offered()
    assert case.offer
    state = decline(
        case,
        case.offer.id,
        "bevan-brittan",
        by="P",
        reason="other",
        words="no\nOffers:\n  9. to bwb: accepted",
        programme=the_programme(),
        now=datetime(2018, 9, 24, 12, tzinfo=UTC),
        standing=NOTHING_KNOWN,
    )
    assert isinstance(state, Routed | Held)
    assert explained(state.state).count("\nOffers:") == 1
