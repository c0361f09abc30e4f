"""What follows from an attempt to hand a mail over, and when the next one is."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifications.domain import (
    ATTEMPTS_KEPT,
    Accepted,
    AlreadySettled,
    Backoff,
    Broken,
    Deferred,
    Delivery,
    Failed,
    Notification,
    Refused,
    Sent,
    Unsendable,
    due,
    record,
)
from tests.unit.notifications_samples import NOW, notification, received

BACKOFF = Backoff()
PLAIN = Backoff(jitter=0)
BUSY = Refused(True, 451, "451 Busy")
BROKEN = Broken("Connection lost")


def queued() -> Notification:
    return notification(received())


def settled(delivery: Delivery) -> Notification:
    return record(queued(), delivery, NOW, BACKOFF).state


@pytest.mark.parametrize(
    ("delivery", "outcome", "status", "remembered"),
    [
        (Accepted("250 Kept"), Sent, "sent", "accepted"),
        (BUSY, Deferred, "queued", "deferred"),
        (BROKEN, Deferred, "queued", "broken"),
        (Broken("Connection lost", uncertain=True), Deferred, "queued", "uncertain"),
        (Refused(False, 550, "550 No such user"), Failed, "failed", "refused"),
        (Unsendable("The address is not of the form name@domain."), Failed, "failed", "unsendable"),
    ],
)
def test_each_result_leads_to_this_state(
    delivery: Delivery, outcome: type, status: str, remembered: str
) -> None:
    result = record(queued(), delivery, NOW, BACKOFF)
    assert type(result) is outcome
    assert result.state.status == status
    assert [attempt.outcome for attempt in result.state.attempts] == [remembered]
    assert (due(result.state) is not None) == (status == "queued")


@pytest.mark.parametrize(
    ("made", "seconds"),
    [(1, 5), (2, 15), (3, 45), (4, 135), (5, 405), (6, 1215), (7, 3645), (8, 7200), (9, 7200), (10**6, 7200)],
)
def test_waits_grow_to_two_hours(made: int, seconds: int) -> None:
    assert PLAIN.delay("any", made) == timedelta(seconds=seconds)


@given(identity=st.text("0123456789abcdef", min_size=32, max_size=32), made=st.integers(1, 200))
def test_jitter_is_bounded_and_the_same_every_time(identity: str, made: int) -> None:
    plain, delay = PLAIN.delay(identity, made), BACKOFF.delay(identity, made)
    assert plain * 0.8 - timedelta(milliseconds=1) <= delay <= plain * 1.2 + timedelta(milliseconds=1)
    assert delay == BACKOFF.delay(identity, made)
    assert delay.microseconds % 1000 == 0


def test_mails_held_up_together_do_not_return_together() -> None:
    assert len({BACKOFF.delay(f"{number:032x}", 5) for number in range(1000)}) > 900


def test_trying_ends_after_72_hours_with_a_last_attempt_and_a_reason() -> None:
    state = queued()
    attempts = 0
    while (at := due(state)) is not None:
        assert at <= NOW + timedelta(hours=72)
        state = record(state, BUSY, at, BACKOFF).state
        attempts += 1
    assert at is None
    assert state.status == "failed"
    assert state.failed_because == f"Given up after 72 hours and {attempts} attempts: 451 Busy"
    assert state.attempts[-1].at == NOW + timedelta(hours=72)
    assert 35 <= attempts == state.attempts_made <= 50


def test_final_refusal_says_what_the_server_said() -> None:
    state = settled(Refused(False, 550, "550 5.1.1 No such user"))
    assert state.failed_because == "The mail server refused it (550): 550 5.1.1 No such user"


def test_servers_words_are_cut_and_cannot_break_a_log() -> None:
    (attempt,) = settled(Refused(False, 550, "550 no\r\nforged: line\x1b[31m" + "x" * 10_000)).attempts
    assert attempt.words.startswith("550 no forged: line [31mx")
    assert len(attempt.words) == 300


@pytest.mark.parametrize("late", [Accepted("250 Kept"), BUSY, Refused(False, 550, "550 No")])
@pytest.mark.parametrize("first", [Accepted("250 Kept"), Refused(False, 550, "550 No")])
def test_result_that_comes_after_the_end_changes_nothing_but_the_memory(
    first: Delivery, late: Delivery
) -> None:
    state = settled(first)
    result = record(state, late, NOW + timedelta(seconds=1), BACKOFF)
    assert isinstance(result, AlreadySettled)
    assert (result.state.status, due(result.state)) == (state.status, None)
    assert len(result.state.attempts) == 2


def test_same_result_recorded_twice_is_one_attempt() -> None:
    state = settled(Accepted("250 Kept"))
    assert record(state, Accepted("250 Kept"), NOW, BACKOFF).state == state


def test_memory_of_attempts_is_bounded() -> None:
    impatient = Backoff(ceiling=timedelta(seconds=60))
    state = queued()
    for second in range(ATTEMPTS_KEPT * 3):
        state = record(state, BROKEN, NOW + timedelta(seconds=second), impatient).state
    assert len(state.attempts) == ATTEMPTS_KEPT
    assert state.attempts_made == ATTEMPTS_KEPT * 3
    assert state.attempts[0].at == NOW
