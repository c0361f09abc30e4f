"""A case's decision in plain words: what was decided, from which words, who was looked at, and what came of it."""

from collections.abc import Iterator
from datetime import datetime

from services.triage.domain import Case
from services.triage.offers import Offer
from services.triage.working_time import LONDON

FACTS_SHOWN = 40


def explained(case: Case) -> str:
    """The explanation, one line for each thing. Strangers' words stand in it as they were written."""
    return "\n".join(_lines(case))


def _lines(case: Case) -> Iterator[str]:
    decision = case.decision
    model = f"model {decision.model}" if decision.model else "no model"
    yield f"{case.reference} is {_state(case)} (revision {case.revision})."
    yield f"Why: {decision.why}"
    yield (
        f"Decided {_when(decision.decided_at)} by rules {decision.rules_version} and {model}, "
        f"{decision.confidence:.0%} sure; eligibility {decision.eligibility}, urgency {decision.urgency}."
    )
    guess = decision.guess
    needs = [str(need) for need in (guess.stream, guess.pilot_theme, *guess.areas, guess.mentoring) if need]
    yield f"Taken by triage for: {guess.disposition}{': ' if needs else ''}{', '.join(needs)}."
    if case.correction:
        yield f"Corrected by an operator to: {case.correction.model_dump_json(exclude_none=True)}"
    if decision.window:
        yield f"It came in the {decision.window} window."
    yield "Found in what was written:"
    strongest = sorted(decision.facts, key=lambda fact: (-fact.counts, fact.start))[:FACTS_SHOWN]
    for fact in strongest:
        yield f"  {fact.words!r} ({fact.where} {fact.start} to {fact.end}) for {fact.rule}: {fact.counts:g}"
    if not strongest:
        yield "  nothing that a rule knows"
    yield "Scores: " + (", ".join(f"{name} {score:g}" for name, score in _by_size(decision.scores)) or "none")
    if decision.candidates:
        yield "Partners looked at:"
        for candidate in decision.candidates:
            yield f"  {candidate.slug} ({candidate.outcome}): {candidate.why}"
    for title, lines in (("Offers:", map(_offer, case.offers)), ("Decisions by people:", _rulings(case))):
        shown = list(lines)
        if shown:
            yield title
            yield from shown


def _state(case: Case) -> str:
    if case.status == "held" and case.disposition in ("out-of-scope", "auto"):
        return f"set aside as {case.disposition}"
    if case.status == "merged":
        return f"part of {case.merged_into}"
    if case.status == "closed":
        return f"closed as {case.outcome}"
    partner = case.partner.name if case.partner else ""
    return {"routed": f"offered to {partner}", "accepted": f"accepted by {partner}"}.get(
        case.status, case.status
    )


def _by_size(scores: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def _offer(offer: Offer) -> str:
    line = f"  {offer.number}. to {offer.partner}, {offer.days:g} days, {_when(offer.made_at)}: {offer.state}"
    if offer.at is None:
        return f"{line} until {_when(offer.expires_at)}"
    because = "; ".join(filter(None, (offer.reason, " ".join(offer.words.split()))))
    by = f" by {offer.by}" if offer.by else ""
    return f"{line}{by} {_when(offer.at)}{f' ({because})' if because else ''}"


def _rulings(case: Case) -> Iterator[str]:
    for ruling in case.rulings:
        why = " ".join(ruling.why.split())
        yield f"  {_when(ruling.at)} {ruling.who}: {ruling.what} {ruling.words} ({why})"


def _when(instant: datetime) -> str:
    local = instant.astimezone(LONDON)
    return f"{local.day} {local:%b %Y %H:%M}"
