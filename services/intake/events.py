"""Decisions made into events: the only place where intake builds what it says."""

from typing import Literal, assert_never

from services.intake.domain import (
    AutoReplied,
    Began,
    Bounced,
    Change,
    Contradicted,
    Discarded,
    FollowedUp,
    Held,
    Message,
    Repeated,
    Reread,
    Via,
)
from shared.contracts.cloudevents import CloudEvent, Person
from shared.contracts.intake import (
    AttachedFile,
    AutoRepliedMail,
    BouncedMail,
    EnquiryFollowedUp,
    EnquiryReceived,
    FailedDelivery,
    FollowedUpEnquiry,
    HeldMail,
    MailAutoReplied,
    MailBounced,
    MailHeld,
    ReceivedEnquiry,
)
from shared.store import Cause

# The event was frozen with four ways: a fifth would be a value its readers do not know.
SAID_AS: dict[Via, Literal["smtp", "lmtp", "http-message", "http-form"]] = {
    "smtp": "smtp",
    "lmtp": "lmtp",
    "imap": "smtp",
    "http-message": "http-message",
    "pipe": "http-message",
    "import": "http-message",
    "http-form": "http-form",
}

WHY_HELD = {
    "not-a-correspondent": (
        "It is about an enquiry that its writer is, as far as we know, no part of. Add it to that enquiry, or let "
        "it begin one of its own."
    ),
    "unreadable": "No text could be made out of it. The whole of it is kept.",
}


def announce(outcome: Change, cause: Cause) -> list[CloudEvent]:
    match outcome:
        case Began(state):
            # A bounce that begins an enquiry is of no mail that we know: it is said, and set aside to be seen.
            bounced = [cause.event(MailBounced, _bounced(state))] if state.bounce_evidence else []
            return [cause.event(EnquiryReceived, _received(state)), *bounced]
        case FollowedUp(state):
            return [cause.event(EnquiryFollowedUp, _followed_up(state))]
        case Bounced(state):
            return [cause.event(MailBounced, _bounced(state))]
        case AutoReplied(state):
            return [cause.event(MailAutoReplied, _auto_replied(state))]
        case Held(state):
            return [cause.event(MailHeld, _held(state))]
        case Discarded() | Reread() | Repeated() | Contradicted():
            return []
        case _:
            assert_never(outcome)


def _received(message: Message) -> ReceivedEnquiry:
    return ReceivedEnquiry(
        reference=message.reference,
        sender=message.sender,
        subject=message.subject,
        text=message.text,
        text_cut=message.text_cut,
        message_id=message.message_id,
        accepted_at=message.accepted_at,
        via=SAID_AS[message.via],
        suppress_reply=message.suppress_reply,
        suppress_reply_evidence=message.suppress_reply_evidence,
        new_text=message.new_text or None,
        automated_evidence=(*message.bounce_evidence, *message.automated_evidence) or None,
        attachments=_attachments(message) or None,
    )


def _followed_up(message: Message) -> FollowedUpEnquiry:
    assert message.party is not None
    return FollowedUpEnquiry(
        reference=message.reference,
        party=message.party,
        author=_author(message),
        subject=message.subject,
        new_text=message.new_text or message.text,
        text=message.text,
        text_cut=message.text_cut,
        attachments=_attachments(message),
        message_id=message.message_id,
        accepted_at=message.accepted_at,
        suppress_reply=message.suppress_reply,
        suppress_reply_evidence=message.suppress_reply_evidence,
        added_by=message.decided_by,
    )


def _bounced(message: Message) -> BouncedMail:
    tied = message.outcome == "bounced"
    return BouncedMail(
        failed=tuple(
            FailedDelivery(
                address=failed.address[:320],
                permanent=failed.permanent,
                status=failed.status[:20],
                diagnostic=failed.diagnostic[:1_000],
            )
            for failed in message.failed_recipients
        ),
        evidence=message.bounce_evidence,
        accepted_at=message.accepted_at,
        reference=message.reference if tied else None,
        party=message.party,
        notification=message.notification or None,
    )


def _auto_replied(message: Message) -> AutoRepliedMail:
    return AutoRepliedMail(
        reference=message.reference,
        party=message.party,
        notification=message.notification or None,
        author=_author(message).address,
        subject=message.subject,
        evidence=message.automated_evidence,
        accepted_at=message.accepted_at,
    )


def _held(message: Message) -> HeldMail:
    return HeldMail(
        message=message.id,
        reason=message.held,
        why=WHY_HELD[message.held],
        candidates=tuple(proposal.reference for proposal in message.proposals),
        author=_author(message),
        subject=message.subject,
        accepted_at=message.accepted_at,
    )


def _author(message: Message) -> Person:
    return Person(name=message.sender.name, address=message.author or message.sender.address)


def _attachments(message: Message) -> tuple[AttachedFile, ...]:
    return tuple(
        AttachedFile(
            name=each.name[:300],
            media_type=each.media_type[:200],
            size=each.size,
            sha256=each.sha256,
            danger=each.danger[:300],
        )
        for each in message.attachments
    )
