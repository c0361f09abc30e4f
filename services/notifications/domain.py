"""What becomes of a mail: queued or held back, sent, tried again, given up, come back. None of the sending.

A notification is one message to one recipient for one event. Its id and its Message-ID follow from those
three alone, so an event delivered twice, or a mail handed over twice, is recognised as the same wherever it
is seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Literal, assert_never

from services.notifications.addresses import envelope_address
from services.notifications.content import Content, Frozen
from services.notifications.windows import ALWAYS_OPEN, Windows
from services.notifications.wording import clean_line
from shared.contracts.cloudevents import Person
from shared.contracts.intake import AutoRepliedMail, FailedDelivery
from shared.contracts.replies import Party, Replies

ATTEMPTS_KEPT = 50
"""How many attempts a notification remembers one by one; more are only counted."""

WORDS_KEPT = 300
"""How much of what a mail server said is kept, in characters."""

NOTES_KEPT = 20
"""How many of the things heard about a mail after it was sent are kept, the newest."""

# The aggregate ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Letterhead:
    """Who our mail comes from, and where the programme's own people read theirs.

    `sender` is also where replies and bounces go, so it must be the address intake listens at. Its domain is
    the right-hand side of every Message-ID: changing it changes the ids of mails still being retried. `replies`
    signs where each recipient is to answer. `windows` are when applications are open.
    """

    programme: str
    sender: Person
    operators: Person
    replies: Replies
    windows: Windows = ALWAYS_OPEN

    def __post_init__(self) -> None:
        # At start, not at the first mail.
        envelope_address(self.sender.address)
        envelope_address(self.operators.address)

    @property
    def domain(self) -> str:
        """The sender's domain in its ASCII form."""
        return envelope_address(self.sender.address).rpartition("@")[2]


class Attempt(Frozen):
    """One try at handing a mail over. `uncertain`: the connection broke after the mail was sent and before
    the server answered, so it may or may not have been taken. `words` are the server's, cleaned and cut."""

    at: datetime
    outcome: Literal["accepted", "deferred", "refused", "broken", "uncertain", "unsendable"]
    words: str


class Note(Frozen):
    """Something heard about a mail after it was sent. `words` are the other server's, cleaned and cut."""

    at: datetime
    what: Literal["bounced", "delayed", "auto-replied"]
    words: str


class Draft(Frozen):
    """A mail an event asks for.

    `party` is the part the recipient plays in the enquiry, and `reply_to` where they are to answer, which is also
    where a bounce goes. `budgets` names what it is counted against (`budget.py`).
    """

    id: str
    template_version: int
    recipient: Person
    reference: str
    enquiry_id: str
    content: Content
    message_id: str
    in_reply_to: str = ""
    party: Party | None = None
    reply_to: str = ""
    budgets: tuple[str, ...] = ()


class Notification(Draft):
    """A mail and what has become of it.

    `next_attempt_at` is set exactly while `status` is `queued`. `failed_because` is what an operator reads of one
    that failed, bounced or was suppressed. `charges` are the places it takes in its budgets.
    """

    created_at: datetime
    status: Literal["queued", "sent", "failed", "bounced", "suppressed"]
    charges: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    attempts_made: int = 0
    next_attempt_at: datetime | None = None
    failed_because: str = ""


# What becomes of it -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Accepted:
    """The server said 250 to the whole mail: it is theirs now."""

    words: str = ""


@dataclass(frozen=True)
class Refused:
    """The server answered no. `temporary` (4xx) asks for another try; otherwise (5xx) the answer is final."""

    temporary: bool
    code: int
    words: str


@dataclass(frozen=True)
class Broken:
    """No answer: nothing listens, the connection went away, time ran out, or the server would not let us in.

    `uncertain` when the mail had been sent and only the answer is missing: the server may have taken it.
    """

    words: str
    uncertain: bool = False


@dataclass(frozen=True)
class Unsendable:
    """No message could be made of it, or no server could be asked to take it: trying again changes
    nothing."""

    words: str


Delivery = Accepted | Refused | Broken | Unsendable


@dataclass(frozen=True)
class Backoff:
    """When to try again: after `first`, then `factor` times as long each time up to `ceiling`, each shifted
    by up to `jitter` of itself, until `give_up_after` the notification was made. Servers keep trying each
    other for 4 to 5 days (RFC 5321 §4.5.4.1); 72 hours, as GOV.UK Notify does, because people wait for these
    mails and an operator should hear of it while it still matters."""

    first: timedelta = timedelta(seconds=5)
    factor: float = 3.0
    ceiling: timedelta = timedelta(hours=2)
    jitter: float = 0.2
    give_up_after: timedelta = timedelta(hours=72)

    def delay(self, identity: str, made: int) -> timedelta:
        """How long to wait after attempt number `made` (from 1). The jitter comes from the id, not from a
        dice, so that deciding twice gives the same answer while a thousand mails held up together do not
        return together."""
        plain = min(
            self.first.total_seconds() * self.factor ** min(made - 1, 60), self.ceiling.total_seconds()
        )
        dice = int.from_bytes(sha256(f"{identity}/{made}".encode()).digest()[:4], "big") / 0xFFFFFFFF
        # Whole milliseconds, because that is what the database keeps.
        return timedelta(milliseconds=round(plain * 1000 * (1 + self.jitter * (2 * dice - 1))))


@dataclass(frozen=True)
class Queued:
    """New: to be handed over now."""

    state: Notification


@dataclass(frozen=True)
class AlreadyPlanned:
    """It was there before: the event has come twice."""

    state: Notification


@dataclass(frozen=True)
class Sent:
    state: Notification


@dataclass(frozen=True)
class Deferred:
    """To be tried again at `state.next_attempt_at`."""

    state: Notification


@dataclass(frozen=True)
class Failed:
    """Given up; `state.failed_because` says why."""

    state: Notification


@dataclass(frozen=True)
class AlreadySettled:
    """Sent or failed before this attempt was reported. The attempt is kept, for it may be a mail sent
    twice."""

    state: Notification


@dataclass(frozen=True)
class Suppressed:
    """Kept and not sent: it would be one too many. `state.failed_because` says of what."""

    state: Notification


@dataclass(frozen=True)
class Bounced:
    """It was sent, and came back."""

    state: Notification


@dataclass(frozen=True)
class Noted:
    """Something was heard about it that changes nothing: a server still tries, a machine answered."""

    state: Notification


Outcome = Queued | Suppressed | AlreadyPlanned | Sent | Deferred | Failed | AlreadySettled | Bounced | Noted


def create(
    state: Notification | None, draft: Draft, now: datetime, lease: timedelta, charges: Sequence[str] = ()
) -> Queued | AlreadyPlanned:
    """Queue `draft`. Whoever creates it hands it over at once and records what happened; should that process
    die, the timer takes over after `lease`, which must therefore be longer than one attempt can last
    (`Mailer.patience`)."""
    if state is not None:
        return AlreadyPlanned(state)
    return Queued(
        Notification(
            **_fields(draft),
            created_at=now,
            status="queued",
            next_attempt_at=now + lease,
            charges=tuple(charges),
        )
    )


def suppress(
    state: Notification | None, draft: Draft, now: datetime, why: str
) -> Suppressed | AlreadyPlanned:
    """Keep `draft`, where it can be seen, and do not send it."""
    if state is not None:
        return AlreadyPlanned(state)
    return Suppressed(Notification(**_fields(draft), created_at=now, status="suppressed", failed_because=why))


def _fields(draft: Draft) -> dict[str, Any]:
    return {name: getattr(draft, name) for name in Draft.model_fields}


def record(
    state: Notification, delivery: Delivery, now: datetime, backoff: Backoff
) -> Sent | Deferred | Failed | AlreadySettled:
    """What follows from one attempt to hand the mail over, finished at `now`."""
    attempt = _attempt(delivery, now)
    if state.status != "queued":
        known = attempt in state.attempts
        return AlreadySettled(state if known else state.model_copy(update=_remember(state, attempt)))
    update: dict[str, object] = _remember(state, attempt)
    match delivery:
        case Accepted():
            update |= {"status": "sent", "next_attempt_at": None}
            return Sent(state.model_copy(update=update))
        case Refused(temporary=False, code=code):
            reason = f"The mail server refused it ({code}): {attempt.words}"
        case Unsendable():
            reason = attempt.words
        case Refused() | Broken():
            deadline = state.created_at + backoff.give_up_after
            if now < deadline:
                update["next_attempt_at"] = min(
                    now + backoff.delay(state.id, state.attempts_made + 1), deadline
                )
                return Deferred(state.model_copy(update=update))
            hours = round(backoff.give_up_after.total_seconds() / 3600, 1)
            reason = f"Given up after {hours:g} hours and {state.attempts_made + 1} attempts: {attempt.words}"
        case _:
            assert_never(delivery)
    update |= {"status": "failed", "next_attempt_at": None, "failed_because": reason}
    return Failed(state.model_copy(update=update))


def came_back(state: Notification, failed: Sequence[FailedDelivery], at: datetime) -> Bounced | Noted:
    """What a report of a delivery that failed does to the mail. One that says only that the server still tries
    changes nothing; one that does not say is taken for final."""
    recipient = state.recipient.address.lower()
    one = next((each for each in failed if each.address.lower() == recipient), failed[0] if failed else None)
    words = clean_line(f"{one.status} {one.diagnostic}" if one else "", WORDS_KEPT) or "no reason was given"
    if one is not None and one.permanent is False:
        return Noted(_noted(state, Note(at=at, what="delayed", words=words)))
    marked = _noted(state, Note(at=at, what="bounced", words=words))
    update = {"status": "bounced", "next_attempt_at": None, "failed_because": f"It came back: {words}"}
    return Bounced(marked.model_copy(update=update))


def was_answered(state: Notification, answer: AutoRepliedMail) -> Noted:
    """A machine answered it."""
    words = clean_line("; ".join(answer.evidence), WORDS_KEPT)
    return Noted(_noted(state, Note(at=answer.accepted_at, what="auto-replied", words=words)))


def _noted(state: Notification, note: Note) -> Notification:
    return state.model_copy(update={"notes": (*state.notes, note)[-NOTES_KEPT:]})


def tell(state: Notification) -> str:
    """One line for a timeline. Addresses are left to those who may see the mail itself."""
    line = f"{state.content.template}: {state.status} after {state.attempts_made} attempts"
    if state.failed_because:
        line += f" ({state.failed_because})"
    heard = [note.what for note in state.notes if note.what != "bounced"]
    return f"{line}; {', '.join(dict.fromkeys(heard))}" if heard else line


def due(state: Notification) -> datetime | None:
    """When this notification must be tried (again), or None if nothing more is to be done."""
    return state.next_attempt_at


def _attempt(delivery: Delivery, now: datetime) -> Attempt:
    outcome: Literal["accepted", "deferred", "refused", "broken", "uncertain", "unsendable"]
    match delivery:
        case Accepted():
            outcome = "accepted"
        case Refused():
            outcome = "deferred" if delivery.temporary else "refused"
        case Broken():
            outcome = "uncertain" if delivery.uncertain else "broken"
        case Unsendable():
            outcome = "unsendable"
        case _:
            assert_never(delivery)
    return Attempt(at=now, outcome=outcome, words=clean_line(delivery.words, WORDS_KEPT))


def _remember(state: Notification, attempt: Attempt) -> dict[str, object]:
    kept = (*state.attempts, attempt)
    if len(kept) > ATTEMPTS_KEPT:
        # The first ones say how the trouble began, the last ones how it is now.
        kept = kept[:3] + kept[-(ATTEMPTS_KEPT - 3) :]
    return {"attempts": kept, "attempts_made": state.attempts_made + 1}
