"""Which mails an event asks for."""

import pytest

from services.notifications.addresses import UnusableAddress
from services.notifications.domain import (
    NOTES_KEPT,
    AlreadyPlanned,
    Bounced,
    Letterhead,
    Noted,
    Notification,
    Queued,
    came_back,
    create,
    due,
    tell,
    was_answered,
)
from services.notifications.plan import bounce_notice, plan
from shared.contracts.cloudevents import CloudEvent, Person
from shared.contracts.intake import FailedDelivery
from shared.contracts.triage import MentoringRequested, RequestedMentoring
from tests.unit.notifications_samples import (
    ENQUIRER,
    ENQUIRY,
    EVERY_EVENT,
    LEASE,
    LETTERHEAD,
    NOW,
    REFERENCE,
    auto_replied,
    booked,
    bounced,
    followed_up,
    held,
    mail_held,
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
        (received(automated_evidence=("Auto-Submitted: auto-generated",)), []),
        (received(sender=LETTERHEAD.operators), []),
        (routed(), [("case-for-partner", "cases@bevan-brittan.example")]),
        (held(), [("held-for-operator", "operators@msp.example")]),
        (held(disposition="out-of-scope"), [("held-for-operator", "operators@msp.example")]),
        (held(disposition="auto"), []),
        (held(enquirer=LETTERHEAD.operators), []),
        (followed_up(), [("follow-up-for-partner", "cases@bevan-brittan.example")]),
        (followed_up(partner=None), [("follow-up-for-operator", "operators@msp.example")]),
        (followed_up(party="partner", partner=None), [("follow-up-for-operator", "operators@msp.example")]),
        (followed_up(party="mentee"), [("follow-up-for-operator", "operators@msp.example")]),
        (followed_up(party="operator"), []),
        (bounced(), []),
        (auto_replied(), []),
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
    assert all(
        draft.budgets and draft.reference == REFERENCE and draft.enquiry_id == ENQUIRY for draft in drafts
    )


@pytest.mark.parametrize("event", EVERY_EVENT, ids=lambda event: event.event_type())
def test_same_event_twice_asks_for_the_same_mails_with_the_same_ids(event: CloudEvent) -> None:
    again = type(event).model_validate_json(event.model_dump_json())
    assert plan(again, LETTERHEAD) == plan(event, LETTERHEAD)


def test_ids_differ_by_event_recipient_and_template() -> None:
    drafts = [draft for event in (*EVERY_EVENT, received("event-9")) for draft in plan(event, LETTERHEAD)]
    assert len({draft.id for draft in drafts}) == len(drafts)
    assert len({draft.message_id for draft in drafts}) == len(drafts)


def test_message_id_tells_intake_which_mail_of_ours_it_is() -> None:
    (draft,) = plan(received(), LETTERHEAD)
    signed = LETTERHEAD.replies.read_message_id(draft.message_id)
    assert signed is not None
    assert (signed.notification, signed.reference, signed.party) == (draft.id, REFERENCE, "enquirer")


def test_held_message_is_told_to_the_operators_unless_it_is_their_own() -> None:
    (draft,) = plan(mail_held(), LETTERHEAD)
    assert (draft.recipient.address, draft.content.template) == (
        "operators@msp.example",
        "held-mail-for-operator",
    )
    assert plan(mail_held(author=LETTERHEAD.operators), LETTERHEAD) == ()


def test_operators_are_told_once_of_a_mail_that_came_back_and_only_where_somebody_waits_for_it() -> None:
    failed = bounced().data.failed
    case = came_back(notification(routed()), failed, NOW).state
    again = came_back(case, failed, NOW + LEASE).state
    assert bounce_notice(case, LETTERHEAD) == bounce_notice(again, LETTERHEAD) is not None
    for event in (received(), held(), followed_up(partner=None)):
        assert bounce_notice(came_back(notification(event), failed, NOW).state, LETTERHEAD) is None
    assert bounce_notice(notification(routed()), LETTERHEAD) is None


def test_mail_that_came_back_says_so_with_the_servers_words_and_is_not_tried_again() -> None:
    outcome = came_back(notification(routed()), bounced().data.failed, NOW)
    assert isinstance(outcome, Bounced)
    assert (outcome.state.status, due(outcome.state)) == ("bounced", None)
    assert outcome.state.failed_because == "It came back: 5.1.1 No such user"
    assert "bounced" in tell(outcome.state) and "No such user" in tell(outcome.state)


def test_mail_a_server_still_tries_to_deliver_is_only_noted() -> None:
    sent = notification(routed())
    delayed = FailedDelivery(address="cases@bevan-brittan.example", permanent=False, diagnostic="busy")
    outcome = came_back(sent, [delayed], NOW)
    assert isinstance(outcome, Noted)
    assert (outcome.state.status, outcome.state.notes[0].what) == (sent.status, "delayed")


def test_mail_a_machine_answered_is_noted_and_the_newest_notes_are_kept() -> None:
    state = notification(received())
    for _ in range(NOTES_KEPT + 5):
        state = was_answered(state, auto_replied().data).state
    assert len(state.notes) == NOTES_KEPT
    assert tell(state).endswith("; auto-replied")


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
        Letterhead(
            "Programme",
            Person(address="no address"),
            Person(address="operators@msp.example"),
            LETTERHEAD.replies,
        )
