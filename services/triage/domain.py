"""Where an enquiry goes and why: a case, the decision about it, the ways it can end, and what comes after.

Pure: the programme and the time are arguments, so deciding twice gives the same case twice.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from services.triage.classify.page import Fact, Mail
from services.triage.classify.reading import Guess, Reading, read
from services.triage.offers import (
    NOTHING_KNOWN,
    Candidate,
    Ended,
    Matter,
    Offer,
    Standing,
    Wanted,
    candidates_for,
    has_ended,
    make_offer,
)
from services.triage.programme import Programme
from shared.contracts.cloudevents import Person
from shared.contracts.intake import AttachedFile, EnquiryFollowedUp, EnquiryReceived, ReceivedEnquiry
from shared.contracts.replies import Party
from shared.contracts.triage import Area, MentoringKind, Partner, Stream, Theme

FOLLOW_UPS_KEPT = 100
FOLLOW_UP_KEPT = 20_000
"""Follow-ups a case keeps, the newest, and characters of each. Intake has all of it."""


class Decision(BaseModel):
    """A decision with everything it rests on.

    `model` is the id of the model that had a say, if any. `reason` is a stable code and `why` one plain
    sentence, of which `asks` is the part that says what is asked for. `guess` is where it would go, also when
    the case is held. `facts` are offsets and words, never the text itself. `window` names the application
    window the enquiry came in, or is None.
    """

    model_config = ConfigDict(frozen=True)

    rules_version: str
    model: str | None = None
    reason: str
    why: str
    asks: str = ""
    guess: Guess
    confidence: float
    eligibility: Literal["eligible", "ineligible", "unclear"]
    urgency: Literal["urgent", "normal"]
    scores: dict[str, float]
    facts: tuple[Fact, ...]
    candidates: tuple[Candidate, ...] = ()
    window: str | None = None
    decided_at: datetime


class FollowUp(BaseModel):
    """Something that was written about the case after it was opened. `message` is its id at intake."""

    model_config = ConfigDict(frozen=True)

    message: str
    at: datetime
    party: Party
    author: Person
    subject: str
    text: str
    attachments: tuple[AttachedFile, ...] = ()


class Ruling(BaseModel):
    """What a named person decided about a case, and why. `what` is a stable word, `words` says it in full."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    who: str
    what: Literal["route", "set-aside", "recover", "merge", "close", "reopen"]
    words: str
    why: str


class Case(BaseModel):
    """Triage's view of one enquiry. The text is kept here once: a held case is routed from it later.

    `status` is `routed` while an offer is open and `accepted` once a partner has said yes; `held` is whatever
    waits for an operator, out-of-scope and automatic mail included: nothing is discarded; `waiting` is for the
    next application window, which opens at `opens_at`. `heard` is the id of
    the event that opened the case. `partner` is who has the open or accepted offer, `days` the work that is.
    `revision` counts changes, so that nobody decides about what they have not seen. `correction` is where an
    operator sent it although the rules had not: what the model is taught.
    """

    model_config = ConfigDict(frozen=True)

    enquiry_id: str
    heard: str
    reference: str
    enquirer: Person
    subject: str
    text: str
    message_id: str
    suppress_reply: bool
    received_at: datetime
    status: Literal["routed", "accepted", "held", "waiting", "closed", "merged"]
    stream: Stream | None = None
    areas: tuple[Area, ...] = ()
    pilot_theme: Theme | None = None
    mentoring: MentoringKind | None = None
    partner: Partner | None = None
    days: float = 0.0
    decision: Decision
    opens_at: datetime | None = None
    follow_ups: tuple[FollowUp, ...] = ()
    offers: tuple[Offer, ...] = ()
    revision: int = 1
    rulings: tuple[Ruling, ...] = ()
    correction: Guess | None = None
    language: str | None = None
    region: str | None = None
    outcome: str | None = None
    merged_into: str | None = None

    @property
    def offer(self) -> Offer | None:
        """The offer that is open or was accepted."""
        last = self.offers[-1] if self.offers else None
        return last if last and last.state in ("open", "accepted") else None

    @property
    def disposition(self) -> str:
        """What it is taken for, by an operator or else by triage."""
        return self.correction.disposition if self.correction else self.decision.guess.disposition

    @property
    def matter(self) -> Matter:
        return Matter(self.enquirer.address, f"{self.subject}\n{self.text}")


def due(case: Case) -> datetime | None:
    """When the case has to be looked at again: the open offer's end, or the opening of the window it is kept for."""
    if case.status == "waiting":
        return case.opens_at
    return case.offers[-1].expires_at if case.status == "routed" and case.offers else None


@dataclass(frozen=True, slots=True)
class Lost:
    """An offer that ended without its partner's doing, who is to be told `why`."""

    partner: Partner
    offer: Offer
    why: str


@dataclass(frozen=True, slots=True)
class Routed:
    """The case is offered to a partner. `first`: it is the case's first offer. `lost` is what another partner
    lost by it."""

    state: Case
    partner: Partner
    stream: Stream
    first: bool = True
    lost: Lost | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """The case waits for an operator. `lost` as in `Routed`."""

    state: Case
    lost: Lost | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """The case is kept for the next application window. Its acknowledgement has said so: nobody need be told."""

    state: Case


@dataclass(frozen=True, slots=True)
class OutOfScope:
    """The mail is none of the programme's business, or came from a machine; kept aside and recoverable."""

    state: Case
    disposition: Literal["out-of-scope", "auto"]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The partner takes the case."""

    state: Case
    offer: Offer


@dataclass(frozen=True, slots=True)
class Ruled:
    """A person decided, and no partner is asked for it. `lost` as in `Routed`."""

    state: Case
    lost: Lost | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """What was asked for can't be: nothing changed. `code` is stable, `why` for the one who asked."""

    state: Case
    code: Literal["unknown", "ended", "changed", "not-now", "not-possible"]
    why: str


@dataclass(frozen=True, slots=True)
class Kept:
    """Nothing changed: another message about a case that has been decided already."""

    state: Case


@dataclass(frozen=True, slots=True)
class FollowedUp:
    """Somebody wrote again. `partner` is to be sent it, or the operators where there is none."""

    state: Case
    follow_up: FollowUp
    partner: Partner | None


Outcome = Routed | Held | Waiting | OutOfScope | Accepted | Ruled | Refused | Kept | FollowedUp


class NoSuchCase(Exception):
    """The case has not been opened (yet). Where it is on its way, this will be tried again."""


def route(
    case: Case | None,
    event: EnquiryReceived,
    programme: Programme,
    now: datetime,
    standing: Standing = NOTHING_KNOWN,
) -> Outcome:
    """Where the enquiry goes.

    The same event again gives the same outcome from the case, whatever the rules or the time are by now;
    another event about a decided case changes and announces nothing. The window is judged by when the
    enquiry was accepted, so that a queue can't make anybody late; membership by `now`.
    """
    if case is not None:
        return _again(case) if case.heard == event.id else Kept(case)
    enquiry = event.data
    return decide(
        enquiry, event.id, event.correlationid, programme, standing, asked_at=enquiry.accepted_at, now=now
    )


def decide(
    enquiry: ReceivedEnquiry,
    heard: str,
    enquiry_id: str,
    programme: Programme,
    standing: Standing,
    *,
    asked_at: datetime,
    now: datetime,
) -> Outcome:
    """What the programme's rules make of it at `now`, for somebody who asked at `asked_at`."""
    reading = read(
        Mail(enquiry.subject, enquiry.text, enquiry.sender.name, enquiry.sender.address),
        programme.rules,
        programme.model,
    )
    window, opens_at = programme.window_at(asked_at), None
    reason, why, guessed = reading.reason, reading.says, reading.guess
    if enquiry.automated_evidence:
        # What its header says, no words can outweigh. An operator can still take it up.
        reason, why = "automatic", f"A machine sent it: {enquiry.automated_evidence[0]}."
        guessed = Guess(disposition="auto")
    candidates: tuple[Candidate, ...] = ()
    if guessed.disposition == "route":
        if not reading.sure:
            reason, why = "unsure", _unsure(reading)
        elif window is None:
            reason, why = "window-closed", _window_closed(programme, asked_at)
            opens_at = programme.opening_after(asked_at)
        else:
            matter = Matter(enquiry.sender.address, f"{enquiry.subject}\n{enquiry.text}")
            candidates = candidates_for(Wanted(reading.guess, matter), programme, now, standing)
            if all(candidate.outcome != "chosen" for candidate in candidates):
                reason, why = "no-partner", f"No partner of the programme can take it: {candidates[-1].why}."
    chosen = next((candidate for candidate in candidates if candidate.outcome == "chosen"), None)
    partner = as_partner(programme, chosen.slug) if chosen else None
    offers: tuple[Offer, ...] = ()
    if chosen and partner:
        why = because(reading.says, partner, chosen)
        offers = (make_offer(enquiry_id, 1, chosen, programme, now),)
    guess = reading.guess if partner else Guess(disposition="review")
    return _again(
        Case(
            enquiry_id=enquiry_id,
            heard=heard,
            reference=enquiry.reference,
            enquirer=enquiry.sender,
            subject=enquiry.subject,
            text=enquiry.text,
            message_id=enquiry.message_id,
            suppress_reply=enquiry.suppress_reply,
            received_at=enquiry.accepted_at,
            status="routed" if partner else "waiting" if opens_at else "held",
            stream=guess.stream,
            areas=guess.areas,
            pilot_theme=guess.pilot_theme,
            mentoring=guess.mentoring,
            partner=partner,
            opens_at=opens_at,
            days=offers[0].days if offers else 0.0,
            offers=offers,
            decision=Decision(
                rules_version=programme.rules.version,
                model=reading.model,
                reason=reason,
                why=why,
                asks=reading.says,
                guess=guessed,
                confidence=reading.confidence,
                eligibility=reading.eligibility,
                urgency=reading.urgency,
                scores=reading.scores,
                facts=reading.facts,
                candidates=candidates,
                window=window.name if window else None,
                decided_at=now,
            ),
        )
    )


def follow_up(case: Case | None, event: EnquiryFollowedUp) -> FollowedUp:
    """Note what was written with the case, and pass an enquirer's words to the partner who has it.

    Whatever else was written, and by whom, is for the operators. Raises `NoSuchCase`.
    """
    if case is None:
        raise NoSuchCase(event.correlationid)
    said = event.data
    noted = FollowUp(
        message=event.subject,
        at=said.accepted_at,
        party=said.party,
        author=said.author,
        subject=said.subject,
        text=said.new_text[:FOLLOW_UP_KEPT],
        attachments=said.attachments,
    )
    state = case.model_copy(update={"follow_ups": (*case.follow_ups, noted)[-FOLLOW_UPS_KEPT:]})
    return FollowedUp(state, noted, case.partner if said.party == "enquirer" else None)


def tell(case: Case) -> str:
    """One line for a timeline."""
    more = len(case.follow_ups)
    return f"{case.decision.why} ({more} follow-up{'s' * (more > 1)})" if more else case.decision.why


def because(asks: str, partner: Partner, chosen: Candidate) -> str:
    """Why the case goes to this partner, in one sentence."""
    return f"{asks.removesuffix('.')}, and {partner.name} is {chosen.why}."


def past_offers(case: Case) -> dict[str, Ended]:
    """The partners that have had the case offered and do not have it, by how that ended."""
    return {offer.partner: offer.state for offer in case.offers if has_ended(offer.state)}


def _again(case: Case) -> Outcome:
    """The outcome that a decided case stands for, if nobody has decided about it since."""
    if case.revision > 1:
        return Kept(case)
    if case.partner is not None and case.stream is not None:
        return Routed(case, case.partner, case.stream)
    if case.status == "waiting":
        return Waiting(case)
    disposition = case.decision.guess.disposition
    if disposition in ("out-of-scope", "auto"):
        return OutOfScope(case, disposition)
    return Held(case)


def as_partner(programme: Programme, slug: str) -> Partner:
    member = programme.partner(slug)
    return Partner(slug=member.slug, name=member.name, address=member.address)


def _unsure(reading: Reading) -> str:
    guess = reading.guess
    best: str = guess.pilot_theme or guess.mentoring or (guess.areas[0] if guess.areas else "any area")
    return (
        f"The rules are not sure ({reading.confidence:.0%}); their best guess is "
        f"{guess.stream}, {best.replace('-', ' ')}."
    )


def _window_closed(programme: Programme, at: datetime) -> str:
    following = programme.window_after(at)
    if following is None:
        return "It came when no application window was open, and none will open again."
    opens = f"{following.opens:%H:%M} on {following.opens:%A} {following.opens.day} {following.opens:%B %Y}"
    return f"It came when no application window was open; the next, the {following.name}, opens at {opens}."
