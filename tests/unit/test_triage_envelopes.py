"""A stream's money: what may be moved, what is refused, and that the ledger balances whatever is ordered."""

from datetime import UTC, datetime
from typing import get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.triage.envelopes.cli import pence_of
from services.triage.envelopes.domain import (
    MOVES,
    Committed,
    Envelope,
    Kind,
    Matched,
    Order,
    Purses,
    Refused,
    Released,
    Repeated,
    Reserved,
    Spent,
    move,
    movements,
    pounds,
)
from tests.unit.triage_examples import the_programme

LIMIT = 1_000_00
NOW = datetime(2018, 9, 24, 9, 30, tzinfo=UTC)


def order(kind: Kind, pence: int, enquiry: str = "a", partner: str = "baxendale", id: str = "") -> Order:
    return Order(
        id=id or f"{kind}-{enquiry}-{pence}",
        kind=kind,
        enquiry_id=enquiry,
        reference="MSP-7F3K-2Q",
        partner=partner,
        pence=pence,
        who="Ada Obi",
        why="the contract was signed",
        at=NOW,
    )


def after(*orders: Order) -> Envelope:
    envelope = None
    for each in orders:
        outcome = move(envelope, each, LIMIT)
        assert not isinstance(outcome, Refused | Repeated), outcome
        envelope = outcome.state
    assert envelope is not None
    return envelope


def purses(of: Purses) -> tuple[int, int, int, int]:
    return of.reserved, of.committed, of.spent, of.matched


RESERVED = (order("reserve", 100_00),)
COMMITTED = (*RESERVED, order("commit", 80_00))
SPENT = (*COMMITTED, order("spend", 50_00))


@pytest.mark.parametrize(
    ("before", "given", "outcome", "left"),
    [
        ((), order("reserve", LIMIT), Reserved, (LIMIT, 0, 0, 0)),
        (RESERVED, order("reserve", 5_00), Reserved, (105_00, 0, 0, 0)),
        (RESERVED, order("commit", 80_00), Committed, (20_00, 80_00, 0, 0)),
        (RESERVED, order("release", 100_00), Released, (0, 0, 0, 0)),
        (COMMITTED, order("spend", 80_00), Spent, (20_00, 0, 80_00, 0)),
        (COMMITTED, order("cancel", 30_00), Released, (20_00, 50_00, 0, 0)),
        (SPENT, order("refund", 50_00), Released, (20_00, 30_00, 0, 0)),
        (RESERVED, order("match", 25_00), Matched, (100_00, 0, 0, 25_00)),
        ((*RESERVED, order("match", 25_00)), order("unmatch", 5_00), Matched, (100_00, 0, 0, 20_00)),
    ],
)
def test_money_moves_from_purse_to_purse(before, given, outcome, left):
    done = move(after(*before) if before else None, given, LIMIT)
    assert isinstance(done, outcome)
    assert purses(done.state) == purses(done.state.accounts["a"]) == left


@pytest.mark.parametrize(
    ("before", "given", "reason", "words"),
    [
        ((), order("reserve", LIMIT + 1), "above-limit", "£1,000.00 of £1,000.00 are free"),
        (RESERVED, order("reserve", LIMIT - 100_00 + 1, "b"), "above-limit", "£900.00 of £1,000.00"),
        ((), order("commit", 1), "no-account", "Nothing has been reserved"),
        (RESERVED, order("commit", 100_01), "not-that-much", "£100.00 reserved, not £100.01"),
        (RESERVED, order("spend", 1), "not-that-much", "£0.00 committed"),
        (COMMITTED, order("release", 20_01), "not-that-much", "£20.00 reserved"),
        (SPENT, order("refund", 50_01), "not-that-much", "£50.00 spent"),
        (RESERVED, order("unmatch", 1), "not-that-much", "£0.00 matched"),
        (RESERVED, order("reserve", 1, partner="bwb"), "another-partner", "held for baxendale"),
        (RESERVED, order("commit", -1), "no-amount", "positive"),
        (RESERVED, order("reserve", 0), "no-amount", "positive"),
    ],
)
def test_what_is_not_there_cannot_be_moved(before, given, reason, words):
    envelope = after(*before) if before else None
    done = move(envelope, given, LIMIT)
    assert isinstance(done, Refused)
    assert (done.reason, done.state) == (reason, envelope or Envelope())
    assert words in done.why


def test_the_same_order_moves_its_money_once_however_late_it_comes_again():
    envelope = after(*SPENT, *(order("reserve", 1, f"other-{n}") for n in range(50)))
    assert move(envelope, SPENT[0], LIMIT) == Repeated(envelope)


def test_matched_funding_counts_against_no_limit():
    envelope = after(order("reserve", LIMIT), order("match", 10 * LIMIT))
    assert (envelope.held, envelope.matched) == (LIMIT, 10 * LIMIT)


def test_money_released_can_be_reserved_for_another_partner():
    envelope = after(*RESERVED, order("release", 100_00), order("reserve", LIMIT, partner="bwb"))
    assert envelope.accounts["a"].partner == "bwb"
    assert [movement[4] for _, movement in movements(envelope)] == ["baxendale", "baxendale", "bwb"]


def test_where_a_limit_is_lowered_nothing_more_is_reserved_and_what_is_held_may_be_spent():
    envelope = after(*COMMITTED)
    assert isinstance(move(envelope, order("reserve", 1, "b"), 50_00), Refused)
    assert isinstance(move(envelope, order("spend", 80_00), 50_00), Spent)


def test_every_movement_says_who_why_and_when():
    [(enquiry, movement)] = movements(after(*RESERVED))
    assert (enquiry, movement) == (
        "a",
        (1, NOW, "reserve", 100_00, "baxendale", "Ada Obi", "the contract was signed", "reserve-a-10000"),
    )


def test_the_programmes_envelopes_are_1200000_and_500000_pounds():
    assert (the_programme().limit("advice"), the_programme().limit("pilot")) == (1_200_000_00, 500_000_00)


@pytest.mark.parametrize(
    ("pence", "text"), [(0, "£0.00"), (5, "£0.05"), (123_405, "£1,234.05"), (-50, "-£0.50")]
)
def test_pence_are_read_as_pounds(pence: int, text: str):
    assert pounds(pence) == text


def test_an_amount_is_typed_in_pounds():
    assert [pence_of(text) for text in ("4800", "4,800.50", "£0.01")] == [480_000, 480_050, 1]
    for wrong in ("", "0", "-5", "1.005", "nan", "inf", "5p"):
        with pytest.raises(Exception, match="no amount"):
            pence_of(wrong)


class Ledger(RuleBasedStateMachine):
    """Any orders in any order, some of them again, beside the simplest book-keeping there is."""

    def __init__(self) -> None:
        super().__init__()
        self.envelope: Envelope | None = None
        self.book: dict[str, dict[str, int]] = {}
        self.given: list[Order] = []

    @rule(
        kind=st.sampled_from(get_args(Kind)),
        pence=st.integers(-1, 600_00) | st.just(LIMIT),
        enquiry=st.sampled_from("abc"),
        partner=st.sampled_from(("baxendale", "bwb")),
    )
    def somebody_orders(self, kind: Kind, pence: int, enquiry: str, partner: str) -> None:
        given = order(kind, pence, enquiry, partner, id=f"order-{len(self.given)}")
        self.given.append(given)
        self.carry_out(given)

    @rule(part=st.sampled_from((1, 2, 3)), which=st.integers(0, 200))
    @precondition(lambda self: self.envelope is not None and self.envelope.accounts)
    def somebody_moves_what_is_there(self, part: int, which: int) -> None:
        """Orders that are likely to be carried out, so that money gets far."""
        assert self.envelope is not None
        able = [
            (id, kind, source)
            for id, account in self.envelope.accounts.items()
            for kind, (source, _) in MOVES.items()
            if source and getattr(account, source)
        ]
        if able:
            id, kind, source = able[which % len(able)]
            pence = max(getattr(self.envelope.accounts[id], source) // part, 1)
            given = order(kind, pence, id, id=f"order-{len(self.given)}")
            self.given.append(given)
            assert not isinstance(self.carry_out(given), Refused)

    @rule(which=st.integers(0, 200))
    @precondition(lambda self: self.envelope is not None and self.envelope.moved)
    def an_order_comes_again(self, which: int) -> None:
        assert self.envelope is not None
        done = {movement[-1] for _, movement in movements(self.envelope)}
        known = [given for given in self.given if given.id in done]
        assert move(self.envelope, known[which % len(known)], LIMIT) == Repeated(self.envelope)

    def carry_out(self, given: Order) -> object:
        outcome = move(self.envelope, given, LIMIT)
        if not isinstance(outcome, Refused | Repeated):
            account = self.book.setdefault(
                given.enquiry_id, dict.fromkeys(("reserved", "committed", "spent", "matched"), 0)
            )
            source, target = MOVES[given.kind]
            if source:
                account[source] -= given.pence
            if target:
                account[target] += given.pence
            self.envelope = outcome.state
        return outcome

    @invariant()
    def the_limit_holds_and_nothing_is_below_nought(self) -> None:
        if self.envelope:
            for each in (self.envelope, *self.envelope.accounts.values()):
                assert min(purses(each)) >= 0
            assert 0 <= self.envelope.held <= LIMIT

    @invariant()
    def totals_are_the_sum_of_accounts_and_of_movements_to_the_penny(self) -> None:
        if not self.envelope:
            return
        for purse in ("reserved", "committed", "spent", "matched"):
            total = getattr(self.envelope, purse)
            assert total == sum(getattr(account, purse) for account in self.envelope.accounts.values())
            assert total == sum(account[purse] for account in self.book.values())
            moved = 0
            for _, (_, _, kind, pence, *_) in movements(self.envelope):
                source, target = MOVES[kind]
                moved += pence * ((target == purse) - (source == purse))
            assert total == moved

    @invariant()
    def movements_are_numbered_without_a_gap(self) -> None:
        if self.envelope:
            numbers = [movement[0] for _, movement in movements(self.envelope)]
            assert numbers == list(range(1, self.envelope.moved + 1))


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
