"""What is written to whom for which event, and what becomes of it: every decision about a mail, none of the
sending.

A notification is one message to one recipient for one event. Its id and its Message-ID follow from those
three alone, so an event delivered twice, or a mail handed over twice, is recognised as the same wherever it
is seen.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Literal, assert_never

from services.notifications.addresses import envelope_address
from services.notifications.content import (
    TEMPLATE_VERSIONS,
    Acknowledgement,
    CaseForPartner,
    Content,
    Frozen,
    HeldForOperator,
    MentoringHeldForOperator,
    SessionInvitation,
)
from services.notifications.wording import clean_line
from shared.contracts.cloudevents import CloudEvent, Person
from shared.contracts.intake import EnquiryReceived
from shared.contracts.mentoring import MentoringHeld, SessionBooked
from shared.contracts.triage import EnquiryHeld, EnquiryRouted

ATTEMPTS_KEPT = 50
"""How many attempts a notification remembers one by one; more are only counted."""

WORDS_KEPT = 300
"""How much of what a mail server said is kept, in characters."""

# A Message-ID we are ready to repeat in our own headers (RFC 5322 §3.6.4, without its comments and quoting).
# It was written by a stranger: anything else is left out, which costs that person's reader the thread and
# nobody anything.
_MESSAGE_ID = re.compile(r"<[!-;=?A-Z\[-~]{1,400}@[!-;=?A-Z\[-~]{1,400}>")

# The aggregate ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Letterhead:
    """Who our mail comes from, and where the programme's own people read theirs.

    `sender` is also where replies and bounces go, so it must be the address intake listens at. Its domain is
    the right-hand side of every Message-ID: changing it changes the ids of mails still being retried.
    """

    programme: str
    sender: Person
    operators: Person

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


class Draft(Frozen):
    """A mail an event asks for."""

    id: str
    template_version: int
    recipient: Person
    reference: str
    enquiry_id: str
    content: Content
    message_id: str
    in_reply_to: str = ""


class Notification(Draft):
    """A mail and what has become of it.

    `next_attempt_at` is set exactly while `status` is `queued`. `failed_because` is what an operator reads.
    """

    created_at: datetime
    status: Literal["queued", "sent", "failed", "suppressed"]
    attempts: tuple[Attempt, ...] = ()
    attempts_made: int = 0
    next_attempt_at: datetime | None = None
    failed_because: str = ""


# What an event asks for -------------------------------------------------------------------------------------


def plan(event: CloudEvent, letterhead: Letterhead) -> tuple[Draft, ...]:
    """The mails `event` asks for, at most one for each recipient and template. An event nobody is written to
    about asks for none."""
    drafts = {draft.id: draft for draft in _plan(event, letterhead)}
    return tuple(drafts.values())


def _plan(event: CloudEvent, letterhead: Letterhead) -> Iterator[Draft]:
    match event:
        case EnquiryReceived(data=enquiry):
            if not enquiry.suppress_reply:
                yield _draft(
                    event,
                    letterhead,
                    enquiry.sender,
                    enquiry.reference,
                    Acknowledgement(received_at=enquiry.accepted_at),
                    in_reply_to=enquiry.message_id if _MESSAGE_ID.fullmatch(enquiry.message_id) else "",
                )
        case EnquiryRouted(data=case):
            yield _draft(
                event,
                letterhead,
                Person(name=case.partner.name[:200], address=case.partner.address),
                case.reference,
                CaseForPartner(
                    partner=case.partner.name,
                    stream=case.stream,
                    areas=case.areas,
                    theme=case.pilot_theme,
                    mentoring=case.mentoring,
                    why=case.why,
                    enquirer=case.enquirer,
                    subject=case.subject,
                    text=case.text,
                ),
            )
        case EnquiryHeld(data=held):
            # Machines' mail is never told to the operators: were their mailbox to answer by itself (out of
            # office), the answer would be held as machines' mail and told to them again, for ever.
            if held.disposition != "auto":
                yield _draft(
                    event,
                    letterhead,
                    letterhead.operators,
                    held.reference,
                    HeldForOperator(
                        disposition=held.disposition,
                        reason=held.reason,
                        why=held.why,
                        enquirer=held.enquirer,
                        subject=held.subject,
                    ),
                )
        case SessionBooked(data=session):
            people: tuple[tuple[Literal["mentee", "mentor"], Person], ...] = (
                ("mentee", session.mentee),
                ("mentor", session.mentor),
            )
            for role, person in people:
                yield _draft(
                    event,
                    letterhead,
                    person,
                    session.reference,
                    SessionInvitation(
                        role=role,
                        uid=session.uid,
                        sequence=session.sequence,
                        mentor=session.mentor,
                        mentee=session.mentee,
                        areas=session.areas,
                        starts=session.starts,
                        zone=session.zone,
                        minutes=session.minutes,
                        where=session.where,
                    ),
                )
        case MentoringHeld(data=request):
            yield _draft(
                event,
                letterhead,
                letterhead.operators,
                request.reference,
                MentoringHeldForOperator(
                    kind=request.kind, reason=request.reason, why=request.why, mentee=request.mentee
                ),
            )
        case _:
            return


def notification_id(event_id: str, address: str, template: str) -> str:
    """32 hexadecimal characters that are the same whenever event, recipient and template are the same."""
    return sha256("\x1f".join((event_id, address.lower(), template)).encode("utf-8", "replace")).hexdigest()[
        :32
    ]


def _draft(
    event: CloudEvent,
    letterhead: Letterhead,
    recipient: Person,
    reference: str,
    content: Content,
    *,
    in_reply_to: str = "",
) -> Draft:
    identity = notification_id(event.id, recipient.address, content.template)
    return Draft(
        id=identity,
        template_version=TEMPLATE_VERSIONS[content.template],
        recipient=recipient,
        reference=reference,
        enquiry_id=event.correlationid,
        content=content,
        message_id=f"<n.{identity}@{letterhead.domain}>",
        in_reply_to=in_reply_to,
    )


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


Outcome = Queued | AlreadyPlanned | Sent | Deferred | Failed | AlreadySettled


def create(
    state: Notification | None, draft: Draft, now: datetime, lease: timedelta
) -> Queued | AlreadyPlanned:
    """Queue `draft`. Whoever creates it hands it over at once and records what happened; should that process
    die, the timer takes over after `lease`, which must therefore be longer than one attempt can last
    (`Mailer.patience`)."""
    if state is not None:
        return AlreadyPlanned(state)
    fields = {name: getattr(draft, name) for name in Draft.model_fields}
    return Queued(Notification(**fields, created_at=now, status="queued", next_attempt_at=now + lease))


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
