"""From what triage decided to what it says; the only place that builds its events."""

from collections.abc import Callable
from typing import assert_never

from services.triage.domain import (
    Accepted,
    Case,
    FollowedUp,
    Held,
    Kept,
    Lost,
    Outcome,
    OutOfScope,
    Refused,
    Routed,
    Ruled,
    Waiting,
)
from services.triage.offers import Offer
from shared.contracts.cloudevents import CloudEvent
from shared.contracts.triage import (
    AcceptedCase,
    CaseAccepted,
    CaseFollowedUp,
    EndedOffer,
    EnquiryHeld,
    EnquiryRouted,
    FollowedUpCase,
    HeldEnquiry,
    MentoringRequested,
    OfferEnded,
    OfferMade,
    RequestedMentoring,
    RoutedEnquiry,
)
from shared.store.cause import Cause

AnswerUrl = Callable[[Offer], str]
"""Where the partner answers an offer."""


def announce(outcome: Outcome, cause: Cause, answer_url: AnswerUrl = lambda _: "") -> list[CloudEvent]:
    """The events of an outcome, in the order they happened."""
    said: list[CloudEvent]
    match outcome:
        case Routed():
            said = [
                *_ended(outcome.state, outcome.lost, cause),
                _routed(outcome, cause, answer_url),
                *(_mentoring(outcome.state, cause) if outcome.first else []),
            ]
        case Held():
            said = [*_ended(outcome.state, outcome.lost, cause), _held(outcome.state, "review", cause)]
        case OutOfScope():
            said = [_held(outcome.state, outcome.disposition, cause)]
        case FollowedUp():
            said = [_followed_up(outcome, cause)]
        case Accepted():
            said = [_accepted(outcome, cause)]
        case Ruled():
            said = _ended(outcome.state, outcome.lost, cause)
        case Kept() | Refused() | Waiting():
            said = []
        case _:
            assert_never(outcome)
    return said


def _routed(outcome: Routed, cause: Cause, answer_url: AnswerUrl) -> EnquiryRouted:
    state = outcome.state
    offer = state.offer
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
            offer=OfferMade(
                id=offer.id, number=offer.number, expires_at=offer.expires_at, answer_url=answer_url(offer)
            )
            if offer
            else None,
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


def _accepted(outcome: Accepted, cause: Cause) -> CaseAccepted:
    state, offer = outcome.state, outcome.offer
    assert state.partner is not None
    return cause.event(
        CaseAccepted,
        AcceptedCase(
            reference=state.reference,
            partner=state.partner,
            by=offer.by,
            days=offer.days,
            enquirer=state.enquirer,
            message_id=state.message_id,
            suppress_reply=state.suppress_reply,
        ),
    )


def _ended(state: Case, lost: Lost | None, cause: Cause) -> list[CloudEvent]:
    if lost is None:
        return []
    ended = next(offer for offer in state.offers if offer.id == lost.offer.id)
    return [
        cause.event(
            OfferEnded,
            EndedOffer(
                reference=state.reference,
                partner=lost.partner,
                number=ended.number,
                how="expired" if ended.state == "expired" else "withdrawn",
                why=lost.why,
            ),
        )
    ]


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
