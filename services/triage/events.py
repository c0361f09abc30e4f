"""From what triage decided to what it says; the only place that builds its events."""

from typing import assert_never

from services.triage.domain import Case, FollowedUp, Held, Kept, Outcome, OutOfScope, Routed
from shared.contracts.cloudevents import CloudEvent
from shared.contracts.triage import (
    CaseFollowedUp,
    EnquiryHeld,
    EnquiryRouted,
    FollowedUpCase,
    HeldEnquiry,
    MentoringRequested,
    RequestedMentoring,
    RoutedEnquiry,
)
from shared.store.cause import Cause


def announce(outcome: Outcome, cause: Cause) -> list[CloudEvent]:
    """The events of an outcome, in the order they happened."""
    match outcome:
        case Routed():
            return [_routed(outcome, cause), *_mentoring(outcome.state, cause)]
        case Held():
            return [_held(outcome.state, "review", cause)]
        case OutOfScope():
            return [_held(outcome.state, outcome.disposition, cause)]
        case FollowedUp():
            return [_followed_up(outcome, cause)]
        case Kept():
            return []
        case _:
            assert_never(outcome)


def _routed(outcome: Routed, cause: Cause) -> EnquiryRouted:
    state = outcome.state
    return cause.event(
        EnquiryRouted,
        RoutedEnquiry(
            reference=state.reference,
            stream=outcome.stream,
            areas=state.areas,
            pilot_theme=state.pilot_theme,
            mentoring=state.mentoring,
            partner=outcome.partner,
            why=state.decision.why,
            enquirer=state.enquirer,
            subject=state.subject,
            text=state.text,
            message_id=state.message_id,
            suppress_reply=state.suppress_reply,
        ),
    )


def _followed_up(outcome: FollowedUp, cause: Cause) -> CaseFollowedUp:
    said = outcome.follow_up
    return cause.event(
        CaseFollowedUp,
        FollowedUpCase(
            reference=outcome.state.reference,
            party=said.party,
            author=said.author,
            subject=said.subject,
            text=said.text,
            attachments=said.attachments,
            partner=outcome.partner,
        ),
    )


def _mentoring(state: Case, cause: Cause) -> list[CloudEvent]:
    if state.mentoring is None:
        return []
    return [
        cause.event(
            MentoringRequested,
            RequestedMentoring(
                reference=state.reference, kind=state.mentoring, areas=state.areas, mentee=state.enquirer
            ),
        )
    ]


def _held(state: Case, disposition: str, cause: Cause) -> EnquiryHeld:
    return cause.event(
        EnquiryHeld,
        HeldEnquiry.model_validate(
            {
                "reference": state.reference,
                "disposition": disposition,
                "reason": state.decision.reason,
                "why": state.decision.why,
                "enquirer": state.enquirer,
                "subject": state.subject,
            }
        ),
    )
