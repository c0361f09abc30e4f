"""What becomes of an offer: accepted, declined, expired or withdrawn; and to whom the case goes then.

Pure. An answer is taken once: the same answer again changes nothing, another one is refused.
"""

from datetime import datetime

from services.triage.classify.reading import Guess
from services.triage.domain import (
    Accepted,
    Case,
    Held,
    Kept,
    Lost,
    Refused,
    Routed,
    as_partner,
    because,
    past_offers,
)
from services.triage.offers import (
    Candidate,
    Ended,
    Offer,
    Reason,
    Standing,
    Wanted,
    candidates_for,
    make_offer,
)
from services.triage.programme import Programme


def accept(
    case: Case, offer_id: str, partner: str, *, by: str, days: float | None, now: datetime
) -> Accepted | Kept | Refused:
    """The partner takes the case; `days` is how much work it thinks it is."""
    offer = case.offers[-1] if case.offers else None
    if offer and (offer.id, offer.partner, offer.state) == (offer_id, partner, "accepted"):
        return Kept(case)
    if refused := _unanswerable(case, offer_id, partner, now):
        return refused
    assert offer is not None
    expected = offer.days if days is None else days
    taken = offer.model_copy(update={"state": "accepted", "by": by, "at": now, "days": expected})
    changes = {"status": "accepted", "days": expected, "offers": (*case.offers[:-1], taken)}
    return Accepted(changed(case, **changes), taken)


def decline(
    case: Case,
    offer_id: str,
    partner: str,
    *,
    by: str,
    reason: Reason,
    words: str,
    programme: Programme,
    now: datetime,
    standing: Standing,
) -> Routed | Held | Kept | Refused:
    """The partner does not take the case, which goes to the next."""
    earlier = next((offer for offer in case.offers if offer.id == offer_id), None)
    if earlier and (earlier.partner, earlier.state) == (partner, "declined"):
        return Kept(case)
    if refused := _unanswerable(case, offer_id, partner, now):
        return refused
    return offer_next(
        without_offer(case, "declined", now, by=by, reason=reason, words=words), programme, now, standing
    )


def expire(
    case: Case, offer_id: str, programme: Programme, now: datetime, standing: Standing
) -> Routed | Held | Kept:
    """The time for an answer is over. An offer that has been answered meanwhile stays as it is."""
    offer = case.offer
    if offer is None or (offer.id, offer.state) != (offer_id, "open") or now < offer.expires_at:
        return Kept(case)
    lost = lost_offer(case, "There was no answer in the time given.")
    return offer_next(without_offer(case, "expired", now), programme, now, standing, lost)


def withdraw_for_conflict(
    case: Case, partner: str, programme: Programme, now: datetime, standing: Standing
) -> Routed | Held | Kept:
    """A partner with a conflict of interest loses an open offer, which goes to the next. A case it had taken
    is held instead: work may have begun, so a person decides."""
    offer = case.offer
    today = programme.local(now).date()
    if offer is None or offer.partner != partner or case.status not in ("routed", "accepted"):
        return Kept(case)
    if standing.conflict(partner, case.matter, today) is None:
        return Kept(case)
    lost = lost_offer(case, "A conflict of interest has been recorded.")
    left = without_offer(case, "withdrawn", now, reason="conflict-of-interest")
    if offer.state == "open":
        return offer_next(left, programme, now, standing, lost)
    why = (
        f"{as_partner(programme, partner).name} had accepted it and turns out to have a conflict of interest."
    )
    return Held(_held(left, "conflict-after-acceptance", why), lost)


def without_money(case: Case, offer_id: str, why: str, now: datetime) -> Held | Kept:
    """A partner has accepted what there is no money for: an operator decides. `why` is for the operators."""
    offer = case.offer
    if offer is None or (offer.id, offer.state) != (offer_id, "accepted"):
        return Kept(case)
    lost = lost_offer(case, "The programme has no money left for it.")
    return Held(_held(without_offer(case, "withdrawn", now, reason="no-money"), "no-money", why), lost)


def offer_next(
    case: Case, programme: Programme, now: datetime, standing: Standing, lost: Lost | None = None
) -> Routed | Held:
    """Offers the case to the best partner that has not had it; with none left it waits for an operator."""
    wanted = Wanted(
        guess=destination_of(case),
        matter=case.matter,
        past=past_offers(case),
        language=case.language,
        region=case.region,
    )
    candidates = candidates_for(wanted, programme, now, standing)
    chosen = next((one for one in candidates if one.outcome == "chosen"), None)
    if chosen is None:
        why = "No partner is left who could be offered it: " + "; ".join(
            f"{as_partner(programme, one.slug).name} is {one.why}" for one in candidates
        )
        return Held(_held(case, "nobody-left", f"{why}.", candidates), lost)
    return offered(case, chosen, candidates, programme, now=now, lost=lost)


def offered(
    case: Case,
    chosen: Candidate,
    candidates: tuple[Candidate, ...],
    programme: Programme,
    *,
    now: datetime,
    lost: Lost | None = None,
) -> Routed:
    """The case with its next offer made."""
    partner = as_partner(programme, chosen.slug)
    offer = make_offer(case.enquiry_id, len(case.offers) + 1, chosen, programme, now)
    why = because(case.decision.asks or case.decision.why, partner, chosen)
    decision = case.decision.model_copy(update={"why": why, "candidates": candidates, "decided_at": now})
    state = changed(
        case,
        status="routed",
        partner=partner,
        days=offer.days,
        offers=(*case.offers, offer),
        decision=decision,
    )
    assert state.stream is not None
    return Routed(state, partner, state.stream, first=not case.offers, lost=lost)


def without_offer(
    case: Case, state: Ended, now: datetime, *, by: str = "", reason: str = "", words: str = ""
) -> Case:
    """The case after its open or accepted offer has ended. The revision stays: what follows counts."""
    offer = case.offer
    if offer is None:
        return case
    update = {"state": state, "at": now, "by": by, "reason": reason, "words": words}
    offers: tuple[Offer, ...] = (*case.offers[:-1], offer.model_copy(update=update))
    return case.model_copy(update={"offers": offers, "partner": None, "days": 0.0})


def lost_offer(case: Case, why: str) -> Lost | None:
    """What the partner who has the case is told when it has it no more."""
    return Lost(case.partner, case.offer, why) if case.partner and case.offer else None


def destination_of(case: Case) -> Guess:
    """Where the case goes: what was decided, which an operator may have corrected."""
    return Guess(
        disposition="route",
        stream=case.stream,
        areas=case.areas,
        pilot_theme=case.pilot_theme,
        mentoring=case.mentoring,
    )


def changed(case: Case, **update: object) -> Case:
    """The case after one decision about it."""
    return case.model_copy(update={**update, "revision": case.revision + 1})


def _held(case: Case, reason: str, why: str, candidates: tuple[Candidate, ...] | None = None) -> Case:
    decision = case.decision.model_copy(
        update={
            "reason": reason,
            "why": why,
            "candidates": case.decision.candidates if candidates is None else candidates,
        }
    )
    return changed(case, status="held", partner=None, days=0.0, decision=decision)


def _unanswerable(case: Case, offer_id: str, partner: str, now: datetime) -> Refused | None:
    offer = next((one for one in case.offers if one.id == offer_id and one.partner == partner), None)
    if offer is None:
        return Refused(case, "unknown", "There is no such offer.")
    if offer.state != "open":
        return Refused(case, "ended", f"This offer has ended: it is {offer.state}.")
    if now >= offer.expires_at:
        return Refused(case, "ended", "This offer has ended: the time for an answer is over.")
    return None
