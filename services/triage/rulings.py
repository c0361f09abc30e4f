"""What operators decide about a case: route it, set it aside, recover, merge, close and reopen it.

Pure. Each decision names who, says why, and is refused where the case has changed since it was looked at.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from services.triage.answers import changed, lost_offer, offered, without_offer
from services.triage.classify.reading import Guess
from services.triage.domain import Case, Refused, Routed, Ruled, Ruling, past_offers
from services.triage.offers import Standing, Wanted, candidates_for
from services.triage.programme import Programme

UNDECIDED = ("held", "waiting", "routed", "accepted")
"""The statuses in which a person may decide otherwise; what is closed or merged is reopened first."""

Closing = Literal["completed", "ineligible", "enquirer-withdrew", "no-answer", "other"]


@dataclass(frozen=True, slots=True)
class By:
    """Who decides, why, when, and the revision of the case they were shown."""

    who: str
    why: str
    now: datetime
    revision: int


@dataclass(frozen=True, slots=True)
class Directions:
    """Where an operator sends a case; without `partner` the best one is found."""

    guess: Guess
    partner: str | None = None
    language: str | None = None
    region: str | None = None


def route_by_hand(
    case: Case, directions: Directions, by: By, programme: Programme, standing: Standing
) -> Routed | Refused:
    """Offers the case where the operator says. This corrects what triage made of it, and is kept to learn from.

    Who declined it, or has a conflict of interest, is not asked again, not even by name.
    """
    if refused := _unfit(case, by, ("held", "waiting", "routed", "accepted")):
        return refused
    if fault := _faulty(case, directions, programme):
        return Refused(case, "not-possible", fault)
    guess = directions.guess
    lost = lost_offer(case, "The programme's office has given it to another partner.")
    left = without_offer(case, "withdrawn", by.now, by=by.who, words=by.why)
    past = past_offers(left)
    if directions.partner:  # by name only those are out who said no themselves
        past = {slug: how for slug, how in past.items() if how == "declined"}
    wanted = Wanted(guess, case.matter, past, directions.language, directions.region, directions.partner)
    candidates = candidates_for(wanted, programme, by.now, standing)
    chosen = next((one for one in candidates if one.outcome == "chosen"), None)
    if chosen is None:
        said = "; ".join(f"{programme.partner(one.slug).name} is {one.why}" for one in candidates)
        return Refused(case, "not-possible", f"No partner can be offered it: {said}.")
    words = f"to {_spoken(guess)}" + (f", by name to {directions.partner}" if directions.partner else "")
    state = _ruled(
        left,
        by,
        "route",
        words,
        stream=guess.stream,
        areas=guess.areas,
        pilot_theme=guess.pilot_theme,
        mentoring=guess.mentoring,
        language=directions.language,
        region=directions.region,
        correction=guess,
        decision=case.decision.model_copy(
            update={"reason": "operator", "asks": f"{by.who} sent it to {_spoken(guess)}."}
        ),
    )
    made = offered(state, chosen, candidates, programme, now=by.now, lost=lost)
    # One decision, one revision: `offered` counts it.
    return Routed(
        made.state.model_copy(update={"revision": case.revision + 1}),
        made.partner,
        made.stream,
        made.first,
        made.lost,
    )


def _faulty(case: Case, directions: Directions, programme: Programme) -> str | None:
    guess = directions.guess
    if guess.stream == "pilot" and (guess.pilot_theme is None or guess.areas):
        return "A pilot needs its theme, and has no areas."
    if guess.stream == "advice" and (guess.pilot_theme or not (guess.areas or guess.mentoring)):
        return "Advice needs an area or a wish for a mentor, and has no theme."
    if directions.partner and directions.partner not in [one.slug for one in programme.partners]:
        return "The programme has no such partner."
    if case.offer and case.offer.partner == directions.partner:
        return "This partner has the case already."
    return None


def set_aside(case: Case, disposition: Literal["out-of-scope", "auto"], by: By) -> Ruled | Refused:
    """None of the programme's business; it stays visible and can be recovered."""
    if refused := _unfit(case, by, ("held", "waiting", "routed", "accepted")):
        return refused
    lost = lost_offer(case, "It turned out to be none of the programme's business.")
    left = without_offer(case, "withdrawn", by.now, by=by.who, words=by.why)
    guess = Guess(disposition=disposition)
    return Ruled(_ruled(left, by, "set-aside", f"as {disposition}", status="held", correction=guess), lost)


def recover(case: Case, by: By) -> Ruled | Refused:
    """What was set aside, by triage or by a person, waits for a decision again."""
    if refused := _unfit(case, by, ("held",)):
        return refused
    if case.disposition not in ("out-of-scope", "auto"):
        return Refused(case, "not-now", "It is not set aside.")
    guess = Guess(disposition="review")
    return Ruled(_ruled(case, by, "recover", "to be decided", correction=guess))


def merge(case: Case, into: Case, by: By) -> Ruled | Refused:
    """The same organisation has asked twice: this case becomes a part of the earlier one.

    Always the later into the earlier, so that two decisions at once can't make a circle of them.
    """
    if refused := _unfit(case, by, ("held", "waiting", "routed", "accepted")):
        return refused
    if (into.received_at, into.enquiry_id) >= (case.received_at, case.enquiry_id):
        return Refused(case, "not-possible", "A case is merged into an earlier one.")
    if into.status == "merged":
        return Refused(case, "not-possible", "That case is itself a part of another.")
    lost = lost_offer(case, f"It is part of {into.reference} now.")
    left = without_offer(case, "withdrawn", by.now, by=by.who, words=by.why)
    words = f"into {into.reference}"
    return Ruled(_ruled(left, by, "merge", words, status="merged", merged_into=into.enquiry_id), lost)


def close(case: Case, outcome: Closing, by: By) -> Ruled | Refused:
    """Nothing more is to be done. The partner that had it is told, unless its work is what completed it."""
    if refused := _unfit(case, by, ("held", "waiting", "routed", "accepted")):
        return refused
    words = f"as {outcome}"
    if outcome == "completed" and case.status == "accepted":
        return Ruled(_ruled(case, by, "close", words, status="closed", outcome=outcome, days=0.0))
    lost = lost_offer(case, "The programme's office has closed the case.")
    left = without_offer(case, "withdrawn", by.now, by=by.who, words=by.why)
    return Ruled(_ruled(left, by, "close", words, status="closed", outcome=outcome), lost)


def reopen(case: Case, by: By) -> Ruled | Refused:
    """A closed or merged case waits for a decision again."""
    if refused := _unfit(case, by, ("closed", "merged")):
        return refused
    left = without_offer(case, "withdrawn", by.now, by=by.who, words="reopened")
    decision = case.decision.model_copy(
        update={"reason": "reopened", "why": f"{by.who} reopened it: {by.why}"}
    )
    state = _ruled(
        left,
        by,
        "reopen",
        "to be decided",
        status="held",
        outcome=None,
        merged_into=None,
        decision=decision,
        correction=Guess(disposition="review") if case.disposition in ("out-of-scope", "auto") else None,
    )
    return Ruled(state)


def _unfit(case: Case, by: By, allowed: tuple[str, ...]) -> Refused | None:
    if case.revision != by.revision:
        return Refused(case, "changed", "The case has changed since you looked at it.")
    if case.status not in allowed:
        return Refused(case, "not-now", f"The case is {case.status}.")
    return None


def _ruled(
    case: Case,
    by: By,
    what: Literal["route", "set-aside", "recover", "merge", "close", "reopen"],
    words: str,
    **update: object,
) -> Case:
    ruling = Ruling(at=by.now, who=by.who, what=what, words=words, why=by.why)
    return changed(case, rulings=(*case.rulings, ruling), **update)


def _spoken(guess: Guess) -> str:
    needs = [str(need) for need in (guess.pilot_theme, *guess.areas, guess.mentoring) if need]
    return f"{guess.stream}: {', '.join(needs)}".replace("-", " ")
