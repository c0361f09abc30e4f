"""Offers: who is asked, what an answer does, what silence does, and who is never asked again."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.triage.answers import accept, decline, expire, withdraw_for_conflict
from services.triage.classify.reading import Guess
from services.triage.domain import Accepted, Case, Held, Kept, Refused, Routed, due, route
from services.triage.events import announce
from services.triage.links import Links
from services.triage.offers import NOTHING_KNOWN, Conflict, Matter, Standing, Wanted, candidates_for
from services.triage.programme import Programme
from services.triage.standing import Board
from shared.store.cause import Cause
from tests.unit.triage_examples import IN_WINDOW, received, the_programme

LEGAL = Guess(disposition="route", stream="advice", areas=("legal",))
MATTER = Matter("ada@leisure.kent.example", "We left Kent County Council in 2015. We need a solicitor.")
SOON = IN_WINDOW + timedelta(hours=1)


def offered() -> Case:
    outcome = route(None, received(), the_programme(), IN_WINDOW)
    assert isinstance(outcome, Routed)
    return outcome.state


def declined(case: Case, **changes: Any):
    given: dict[str, Any] = {
        "by": "Priya Nair",
        "reason": "no-capacity",
        "words": "Full until June.",
        "programme": the_programme(),
        "now": SOON,
        "standing": NOTHING_KNOWN,
        **changes,
    }
    assert case.offer
    return decline(case, case.offer.id, case.offer.partner, **given)


def accepted(case: Case, **changes: Any):
    assert case.offer
    given: dict[str, Any] = {"by": "Priya Nair", "days": None, "now": SOON, **changes}
    return accept(case, case.offer.id, case.offer.partner, **given)


def chosen(wanted: Wanted, programme: Programme | None = None, standing: Standing = NOTHING_KNOWN):
    found = candidates_for(wanted, programme or the_programme(), IN_WINDOW, standing)
    return next((one.slug for one in found if one.outcome == "chosen"), None), [one.outcome for one in found]


def conflict(partner: str = "bevan-brittan", **changes: Any) -> Conflict:
    given: dict[str, Any] = {
        "partner": partner,
        "organisation": "Kent County Council",
        "why": "acts for the council",
        "who": "Ada Obi",
        "starts": date(2018, 1, 1),
        **changes,
    }
    return Conflict(**given)


# Whom to ask


@pytest.mark.parametrize(
    ("standing", "expected", "outcomes"),
    [
        (Standing(), "bevan-brittan", ["chosen", "not-needed"]),
        (Standing({"bevan-brittan": 250}), "bwb", ["full", "chosen"]),
        (Standing({"bevan-brittan": 249.5}), "bevan-brittan", ["chosen", "not-needed"]),
        (Standing({"bevan-brittan": 251, "bwb": 250}), "bwb", ["full", "chosen"]),  # the least full
        (Standing({}, (conflict(),)), "bwb", ["conflict", "chosen"]),
        (Standing({}, (conflict(starts=date(2018, 9, 25)),)), "bevan-brittan", ["chosen", "not-needed"]),
        (Standing({}, (conflict(ends=date(2018, 9, 23)),)), "bevan-brittan", ["chosen", "not-needed"]),
        (Standing({}, (conflict(ends=date(2018, 9, 24)),)), "bwb", ["conflict", "chosen"]),
        (Standing({}, (conflict(organisation="", domain="kent.example"),)), "bwb", ["conflict", "chosen"]),
        (
            Standing({}, (conflict(organisation="", domain="ent.example"),)),
            "bevan-brittan",
            ["chosen", "not-needed"],
        ),
        (
            Standing({}, (conflict(organisation="Kent County"), conflict("bwb"))),
            None,
            ["conflict", "conflict"],
        ),
        (
            Standing({}, (conflict(organisation="ent county council"),)),
            "bevan-brittan",
            ["chosen", "not-needed"],
        ),
    ],
)
def test_a_partner_is_asked_unless_something_speaks_against_it(standing, expected, outcomes):
    assert chosen(Wanted(LEGAL, MATTER), None, standing) == (expected, outcomes)


@pytest.mark.parametrize("ended", ["declined", "expired", "withdrawn"])
def test_who_has_had_the_case_is_not_asked_again(ended: str):
    wanted = Wanted(LEGAL, MATTER, {"bevan-brittan": ended})  # type: ignore[dict-item]
    assert chosen(wanted) == ("bwb", [ended, "chosen"])


def test_where_the_programme_says_so_nobody_is_asked_once_all_are_full():
    programme = the_programme()
    hold = programme.model_copy(update={"offers": programme.offers.model_copy(update={"when_full": "hold"})})
    full = Standing({"bevan-brittan": 250, "bwb": 300})
    assert chosen(Wanted(LEGAL, MATTER), hold, full) == (None, ["full", "full"])


def test_of_partners_ranked_alike_the_one_with_less_of_its_capacity_in_hand_is_asked():
    programme = the_programme()
    alike = programme.model_copy(
        update={"routing": {**programme.routing, "legal": (("bevan-brittan", "mutual-ventures"), "bwb")}}
    )
    for in_hand, expected in (
        ({"bevan-brittan": 10, "mutual-ventures": 19}, "mutual-ventures"),  # of 250 and of 500
        ({"bevan-brittan": 9, "mutual-ventures": 19}, "bevan-brittan"),
        ({}, "bevan-brittan"),
    ):
        assert chosen(Wanted(LEGAL, MATTER), alike, Standing(in_hand))[0] == expected


def test_a_language_or_region_that_is_asked_for_excludes_who_does_not_work_in_it():
    programme = the_programme()
    partners = tuple(
        one.model_copy(update={"languages": ("English",), "regions": ("London",)})
        if one.slug == "bevan-brittan"
        else one
        for one in programme.partners
    )
    particular = programme.model_copy(update={"partners": partners})
    assert chosen(Wanted(LEGAL, MATTER), particular)[0] == "bevan-brittan"
    assert chosen(Wanted(LEGAL, MATTER, language="Urdu"), particular) == ("bwb", ["language", "chosen"])
    assert chosen(Wanted(LEGAL, MATTER, region="Kent"), particular) == ("bwb", ["region", "chosen"])


# Answers


def test_a_case_is_first_offered_and_the_partner_has_two_working_days():
    case = offered()
    assert case.offer
    assert (case.status, case.offer.partner, case.offer.number, case.offer.state) == (
        "routed",
        "bevan-brittan",
        1,
        "open",
    )
    assert case.offer.expires_at == datetime(2018, 9, 26, 9, 30, tzinfo=UTC)
    assert due(case) == case.offer.expires_at


def test_an_offer_made_on_maundy_thursday_can_be_answered_after_easter():
    late = datetime(2018, 3, 29, 15, 0, tzinfo=UTC)  # 16:00: summer time has begun
    outcome = route(None, received(accepted_at=late), the_programme(), late)
    assert outcome.state.offer and outcome.state.offer.expires_at == datetime(2018, 4, 4, 15, 0, tzinfo=UTC)


def test_once_accepted_the_case_is_the_partners_and_no_timer_runs():
    outcome = accepted(offered(), days=2.5)
    assert isinstance(outcome, Accepted)
    assert (outcome.state.status, outcome.state.days, due(outcome.state)) == ("accepted", 2.5, None)
    assert accepted(outcome.state) == Kept(outcome.state), "again is harmless"
    assert isinstance(declined(outcome.state), Refused)


def test_once_declined_the_next_is_asked_and_with_nobody_left_it_is_held_with_every_reason():
    second = declined(offered())
    assert isinstance(second, Routed)
    assert (second.partner.slug, second.first, second.lost) == ("bwb", False, None)
    assert [offer.state for offer in second.state.offers] == ["declined", "open"]
    assert "and BWB is the fallback for legal" in second.state.decision.why
    last = declined(second.state, reason="out-of-expertise")
    assert isinstance(last, Held)
    assert (last.state.decision.reason, last.state.partner, last.state.days) == ("nobody-left", None, 0)
    assert "Bevan Brittan is the first choice for legal, but it declined" in last.state.decision.why


def test_without_an_answer_in_time_the_next_is_asked_and_the_first_is_told():
    case = offered()
    assert case.offer
    end = case.offer.expires_at
    assert expire(case, case.offer.id, the_programme(), end - timedelta(seconds=1), NOTHING_KNOWN) == Kept(
        case
    )
    outcome = expire(case, case.offer.id, the_programme(), end, NOTHING_KNOWN)
    assert isinstance(outcome, Routed) and outcome.lost
    assert (outcome.partner.slug, outcome.lost.partner.slug) == ("bwb", "bevan-brittan")
    assert expire(outcome.state, case.offer.id, the_programme(), end, NOTHING_KNOWN) == Kept(outcome.state)


def test_an_answer_after_its_time_is_refused():
    case = offered()
    assert case.offer
    for answer in (accepted, declined):
        assert answer(case, now=case.offer.expires_at) == Refused(
            case, "ended", "This offer has ended: the time for an answer is over."
        )


def test_an_answer_to_somebody_elses_offer_is_refused():
    case = offered()
    assert case.offer
    given = {"by": "Eve", "days": None, "now": SOON}
    for offer_id, partner in ((case.offer.id, "bwb"), ("other-1", "bevan-brittan")):
        outcome = accept(case, offer_id, partner, **given)
        assert isinstance(outcome, Refused) and outcome.code == "unknown"


# Conflicts found later


def test_a_conflict_takes_an_open_offer_back_and_the_next_is_asked():
    standing = Standing({}, (conflict(organisation="", domain="example.com"),))
    outcome = withdraw_for_conflict(offered(), "bevan-brittan", the_programme(), SOON, standing)
    assert isinstance(outcome, Routed) and outcome.lost
    assert (outcome.partner.slug, outcome.state.offers[0].state) == ("bwb", "withdrawn")
    assert "acts for" not in outcome.lost.why, "the register is not the partner's to read"


def test_a_conflict_after_acceptance_is_for_a_person_to_decide():
    standing = Standing({}, (conflict(organisation="", domain="example.com"),))
    case = accepted(offered()).state
    outcome = withdraw_for_conflict(case, "bevan-brittan", the_programme(), SOON, standing)
    assert isinstance(outcome, Held) and outcome.lost
    assert outcome.state.decision.reason == "conflict-after-acceptance"


def test_a_conflict_with_others_changes_nothing():
    case = offered()
    standing = Standing({}, (conflict(organisation="", domain="elsewhere.example"),))
    assert withdraw_for_conflict(case, "bevan-brittan", the_programme(), SOON, standing) == Kept(case)


# What is said of it


def said(outcome: Any) -> list[str]:
    cause = Cause("m", outcome.state.enquiry_id, outcome.state.enquiry_id, SOON)
    return [event.routing_key for event in announce(outcome, cause, lambda offer: offer.id)]


def test_what_concerns_a_partner_bears_its_name_in_the_routing_key():
    case = offered()
    assert case.offer
    assert said(accepted(case)) == ["case.accepted.v1.bevan-brittan"]
    assert said(declined(case)) == ["enquiry.routed.v1.bwb"]
    expired = expire(case, case.offer.id, the_programme(), case.offer.expires_at, NOTHING_KNOWN)
    assert said(expired) == ["offer.ended.v1.bevan-brittan", "enquiry.routed.v1.bwb"]
    assert said(Kept(case)) == said(Refused(case, "ended", "")) == []


def test_a_link_is_good_for_one_offer_and_one_partner_whatever_key_signed_it():
    case = offered()
    assert case.offer
    old, new = Links(["old"], "https://x.example/"), Links(["new", "old"], "https://x.example")
    token = new.token(case.offer)
    assert new.url(case.offer) == f"https://x.example/offers/{token}"
    assert new.read(token) == (case.offer.id, "bevan-brittan")
    assert new.read(old.token(case.offer)) == (case.offer.id, "bevan-brittan")
    assert old.read(token) is None
    for wrong in ("", "x", token[:-1], token.replace("bevan", "seven"), f"{case.offer.id}~bwb.x", "é"):
        assert new.read(wrong) is None


async def test_the_board_counts_a_case_once_however_often_it_is_decided():
    board = Board(None, None)  # type: ignore[arg-type]
    decide = board.deciding(lambda _, standing: route(None, received(), the_programme(), IN_WINDOW, standing))
    first = decide(None)
    assert decide(None) == first
    assert board.standing.days == {"bevan-brittan": 3}
    board.deciding(lambda case, _: declined(case))(first.state)
    assert board.standing.days == {"bevan-brittan": 0, "bwb": 3}


# The whole life of a case


class OfferLife(RuleBasedStateMachine):
    """Any sequence of answers, silences and conflicts."""

    @initialize()
    def begin(self) -> None:
        self.case = offered()
        self.now = IN_WINDOW
        self.conflicts: tuple[Conflict, ...] = ()

    @property
    def standing(self) -> Standing:
        return Standing({}, self.conflicts)

    def take(self, outcome: Any) -> None:
        before, after = self.case, outcome.state
        if isinstance(outcome, (Kept, Refused)):
            assert after is before
        else:
            assert after.revision == before.revision + 1
        if before.offer and not (after.offer and after.offer.id == before.offer.id):
            told = isinstance(outcome, (Routed, Held)) and outcome.lost is not None
            assert told is (after.offers[before.offer.number - 1].state != "declined")
        self.case = after

    @rule(hours=st.integers(0, 40))
    def time_passes(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @rule(number=st.integers(1, 3), partner=st.sampled_from(["bevan-brittan", "bwb", "baxendale"]))
    def say_yes(self, number: int, partner: str) -> None:
        offer_id = f"{self.case.enquiry_id}-{number}"
        self.take(accept(self.case, offer_id, partner, by="P", days=None, now=self.now))

    @rule(number=st.integers(1, 3), partner=st.sampled_from(["bevan-brittan", "bwb"]))
    def say_no(self, number: int, partner: str) -> None:
        self.take(
            decline(
                self.case,
                f"{self.case.enquiry_id}-{number}",
                partner,
                by="P",
                reason="other",
                words="",
                programme=the_programme(),
                now=self.now,
                standing=self.standing,
            )
        )

    @rule(number=st.integers(1, 3))
    def timer(self, number: int) -> None:
        offer_id = f"{self.case.enquiry_id}-{number}"
        self.take(expire(self.case, offer_id, the_programme(), self.now, self.standing))

    @rule(partner=st.sampled_from(["bevan-brittan", "bwb"]))
    def conflict_found(self, partner: str) -> None:
        self.conflicts += (conflict(partner, organisation="", domain="example.com"),)
        self.take(withdraw_for_conflict(self.case, partner, the_programme(), self.now, self.standing))

    @invariant()
    def it_is_always_somebodys(self) -> None:
        case = self.case
        states = [offer.state for offer in case.offers]
        assert sum(state in ("open", "accepted") for state in states) == (case.status != "held")
        assert (case.partner is None) is (case.status == "held")
        assert {"routed": "open", "accepted": "accepted"}.get(case.status, states[-1]) == states[-1]
        asked = [offer.partner for offer in case.offers]
        assert len(asked) == len(set(asked)), "nobody is asked twice"
        assert [offer.number for offer in case.offers] == list(range(1, len(asked) + 1))
        assert (due(case) is not None) is (case.status == "routed")
        if case.offer and case.offer.state == "open":
            assert case.offer.partner not in [one.partner for one in self.conflicts]


OfferLife.TestCase.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)
TestOfferLife = OfferLife.TestCase
