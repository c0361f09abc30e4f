"""How much mail may leave by itself: places in a day's budget."""

from datetime import UTC, datetime, timedelta

from services.notifications.budget import (
    Budgets,
    Limits,
    acknowledgements_to,
    mails_about,
    mails_because_of,
)

NOW = datetime(2018, 9, 24, 9, tzinfo=UTC)
LIMITS = Limits(acknowledgements=3, because_of=5, about=2)
JANE = (acknowledgements_to("jane@council.example"),)


def test_every_mail_takes_another_place_until_none_is_left() -> None:
    budgets = Budgets(LIMITS)
    places = [budgets.take(JANE, NOW) for _ in range(4)]
    assert len(set(places)) == 4 and places[3] is None


def test_next_day_has_places_again() -> None:
    budgets = Budgets(LIMITS)
    while budgets.take(JANE, NOW):
        pass
    assert budgets.take(JANE, NOW + timedelta(days=1))


def test_address_with_another_tag_or_case_is_the_same_mailbox() -> None:
    assert acknowledgements_to("Jane+42@Council.example") == JANE[0]
    assert mails_because_of("jane@council.example") != JANE[0]


def test_mail_takes_a_place_in_each_of_its_budgets_or_in_none() -> None:
    budgets = Budgets(LIMITS)
    both = (mails_because_of("jane@council.example"), mails_about("MSP-7F3K-2Q"))
    assert len(budgets.take(both, NOW) or ()) == 2
    assert budgets.take(both, NOW)
    assert budgets.take(both, NOW) is None, "two further mails about one enquiry"
    assert [bool(budgets.take(both[:1], NOW)) for _ in range(4)] == [True, True, True, False]


def test_mail_without_a_budget_is_never_held_back() -> None:
    budgets = Budgets(LIMITS)
    assert all(budgets.take((), NOW) == () for _ in range(100))


def test_what_the_database_says_is_taken_is_believed_over_memory() -> None:
    first, other = Budgets(LIMITS), Budgets(LIMITS)
    taken = [place for _ in range(2) for place in first.take(JANE, NOW) or ()]
    other.learn(JANE, NOW, taken)
    assert other.take(JANE, NOW) == first.take(JANE, NOW), "the first that is free"
    assert other.full(JANE, NOW).startswith("Held back: 3 acknowledgements")
    other.learn(JANE, NOW, taken)
    assert other.full(JANE, NOW) == "", "a place that was given away and not taken is found again"


def test_claims_of_a_budget_lie_in_its_range_and_no_others_do() -> None:
    budgets = Budgets(LIMITS)
    [(low, high)] = budgets.ranges(JANE, NOW)
    assert all(low <= place < high for place in budgets.take(JANE, NOW) or ())
    others = budgets.take((acknowledgements_to("joe@council.example"),), NOW)
    assert others and not any(low <= place < high for place in others)
