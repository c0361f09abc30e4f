"""What became of one message, told to whom it concerns: the same facts for a receipt and for a report."""

from typing import Literal, assert_never

from pydantic import BaseModel, ConfigDict

from services.intake.domain import (
    ArrivedMail,
    AutoReplied,
    Began,
    Bounced,
    Contradicted,
    Discarded,
    FollowedUp,
    Held,
    Outcome,
    Repeated,
)

Ending = Literal["enquiry", "follow-up", "bounce", "automatic", "held", "duplicate", "refused"]


class ToldAttachment(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    media_type: str
    size: int
    sha256: str
    danger: str


class Told(BaseModel):
    """`id` is the message's own. `reason` says why, where the outcome alone does not. `failed_recipients` are
    addresses."""

    model_config = ConfigDict(frozen=True)

    id: str
    outcome: Ending
    reason: str
    is_bounce: bool
    failed_recipients: tuple[str, ...]
    is_automated: bool
    suppress_reply: bool
    new_text: str
    whole_text: str
    attachments: tuple[ToldAttachment, ...]


def tell(outcome: Outcome, arrived: ArrivedMail) -> Told:
    read = arrived.read
    ending, reason = _ending(outcome)
    return Told(
        id=outcome.state.id,
        outcome=ending,
        reason=reason or read.parse_error or "",
        is_bounce=bool(read.bounce_evidence),
        failed_recipients=tuple(failed.address for failed in read.failed_recipients),
        is_automated=bool(read.automated_evidence),
        suppress_reply=bool(read.suppress_reply_evidence),
        new_text=read.new_text,
        whole_text=read.text,
        attachments=tuple(
            ToldAttachment(
                name=each.name,
                media_type=each.media_type,
                size=each.size,
                sha256=each.sha256,
                danger=each.danger,
            )
            for each in read.attachments
        ),
    )


def _ending(outcome: Outcome) -> tuple[Ending, str]:  # noqa: PLR0911 - a table
    match outcome:
        case Began(state) if state.bounce_evidence:
            return "bounce", f"of no mail of ours: {state.bounce_evidence[0]}"
        case Began(state) if state.automated_evidence:
            return "automatic", state.automated_evidence[0]
        case Began():
            return "enquiry", ""
        case FollowedUp(state):
            return "follow-up", f"to {state.reference}, by {state.tie}"
        case Bounced(state):
            return "bounce", f"about {state.reference}: {state.bounce_evidence[0]}"
        case AutoReplied(state):
            return "automatic", f"about {state.reference}: {state.automated_evidence[0]}"
        case Held(state):
            return "held", state.held
        case Discarded():
            return "held", "discarded by an operator"
        case Repeated(state):
            return "duplicate", f"accepted before, as {state.reference or state.id}"
        case Contradicted():
            return "refused", "its idempotency key was used for another one"
        case _:
            assert_never(outcome)
