"""Decisions made into events: the only place where intake builds what it says."""

from typing import Literal, assert_never

from services.intake.domain import Accepted, Contradicted, Message, Outcome, Repeated, Via
from shared.contracts.cloudevents import CloudEvent
from shared.contracts.intake import EnquiryReceived, ReceivedEnquiry
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


def announce(outcome: Outcome, cause: Cause) -> list[CloudEvent]:
    match outcome:
        case Accepted(state):
            return [cause.event(EnquiryReceived, _received(state))]
        case Repeated() | Contradicted():
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
    )
