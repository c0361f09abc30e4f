"""Which mails an event asks for."""

import pytest

from services.notifications.addresses import UnusableAddress
from services.notifications.domain import AlreadyPlanned, Letterhead, Notification, Queued, create, due, plan
from shared.contracts.cloudevents import CloudEvent, Person
from shared.contracts.triage import MentoringRequested, RequestedMentoring
from tests.unit.notifications_samples import (
    ENQUIRER,
    ENQUIRY,
    EVERY_EVENT,
    LEASE,
    LETTERHEAD,
    NOW,
    REFERENCE,
    booked,
    held,
    mentoring_held,
    notification,
    received,
    routed,
)


@pytest.mark.parametrize(
    ("event", "asked_for"),
    [
        (received(), [("acknowledgement", ENQUIRER.address)]),
        (received(suppress_reply=True), []),
        (routed(), [("case-for-partner", "cases@bevan-brittan.example")]),
        (held(), [("held-for-operator", "operators@msp.example")]),
        (held(disposition="out-of-scope"), [("held-for-operator", "operators@msp.example")]),
        (held(disposition="auto"), []),
        (
            booked(),
            [("session-invitation", ENQUIRER.address), ("session-invitation", "moira@mentors.example")],
        ),
        (mentoring_held(), [("mentoring-held-for-operator", "operators@msp.example")]),
        (
            MentoringRequested(
                id="event-6",
                subject=REFERENCE,
                time=NOW,
                correlationid=ENQUIRY,
                causationid="cause",
                data=RequestedMentoring(reference=REFERENCE, kind="one-to-one", mentee=ENQUIRER),
            ),
            [],
        ),
    ],
    ids=lambda value: value.event_type() if isinstance(value, CloudEvent) else None,
)
def test_each_event_asks_for_these_mails(event: CloudEvent, asked_for: list[tuple[str, str]]) -> None:
    drafts = plan(event, LETTERHEAD)
    assert [(draft.content.template, draft.recipient.address) for draft in drafts] == asked_for
    assert all(draft.reference == REFERENCE and draft.enquiry_id == ENQUIRY for draft in drafts)


@pytest.mark.parametrize("event", EVERY_EVENT, ids=lambda event: event.event_type())
def test_same_event_twice_asks_for_the_same_mails_with_the_same_ids(event: CloudEvent) -> None:
    again = type(event).model_validate_json(event.model_dump_json())
    assert plan(again, LETTERHEAD) == plan(event, LETTERHEAD)


def test_ids_differ_by_event_recipient_and_template() -> None:
    drafts = [draft for event in (*EVERY_EVENT, received("event-9")) for draft in plan(event, LETTERHEAD)]
    assert len({draft.id for draft in drafts}) == len(drafts)
    assert len({draft.message_id for draft in drafts}) == len(drafts)


def test_message_id_follows_from_the_notification() -> None:
    (draft,) = plan(received(), LETTERHEAD)
    assert draft.message_id == f"<n.{draft.id}@msp.example>"


def test_mentor_who_is_the_mentee_is_invited_once() -> None:
    assert len(plan(booked(mentor=ENQUIRER), LETTERHEAD)) == 1


@pytest.mark.parametrize(
    "unusable",
    ["", "no brackets", "<a@b", "<a b@c>", "<a@b>\r\nBcc: x@y.example", "<a@b> <c@d>", f"<{'a' * 900}@b>"],
)
def test_message_id_that_cannot_stand_in_a_header_is_left_out(unusable: str) -> None:
    (draft,) = plan(received(message_id=unusable), LETTERHEAD)
    assert draft.in_reply_to == ""


def test_new_notification_is_queued_and_due_when_its_lease_ends() -> None:
    (draft,) = plan(received(), LETTERHEAD)
    outcome = create(None, draft, NOW, LEASE)
    assert isinstance(outcome, Queued)
    assert outcome.state.status == "queued"
    assert due(outcome.state) == NOW + LEASE


def test_notification_planned_twice_stays_as_it_was() -> None:
    (draft,) = plan(received(), LETTERHEAD)
    first = create(None, draft, NOW, LEASE).state
    again = create(first, draft, NOW + LEASE, LEASE)
    assert isinstance(again, AlreadyPlanned)
    assert again.state is first


@pytest.mark.parametrize("event", EVERY_EVENT, ids=lambda event: event.event_type())
def test_notification_comes_back_from_the_database_as_it_went(event: CloudEvent) -> None:
    state = notification(event)
    assert Notification.model_validate(state.model_dump()) == state


def test_letterhead_with_an_address_nobody_can_answer_is_refused_at_start() -> None:
    with pytest.raises(UnusableAddress):
        Letterhead("Programme", Person(address="no address"), Person(address="operators@msp.example"))
