"""From a mail's words to a reading: disposition, needs, eligibility, urgency, and the words each rests on.

What is *asked for* counts, not the words used: a passage that asks weighs most, a story little, and what is
declined or already covered nothing. Pure and deterministic; no clock, no I/O.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast

from pydantic import BaseModel, ConfigDict

from services.triage.classify.circumstances import About, circumstances
from services.triage.classify.features import features_of
from services.triage.classify.model import Calibration, Evidence, Features, Model, Verdict
from services.triage.classify.needs import Tally, tally_needs
from services.triage.classify.page import LONGEST_WORDS, Fact, Found, Mail, Page, Where, fact_of, open_page
from services.triage.programme import AREAS, MENTORING, THEMES, DispositionRule, Rules
from shared.contracts.triage import Area, Disposition, MentoringKind, Stream, Theme

Eligibility = Literal["eligible", "ineligible", "unclear"]
MOST_FACTS = 12  # of one sort
SECOND_AREA = 0.5  # how likely a further area must be to be named
CERTAIN_AREA = 0.85  # and to be named in a mail that is not routed
HALF_MET = 0.5
_READS_LIKE: dict[str, str] = {
    "review": "It reads like mail that somebody must look into or ask about before it can go anywhere.",
    "out-of-scope": "It reads like mail that is none of the programme's business.",
    "auto": "It reads like mail that a machine sent.",
}


class Guess(BaseModel):
    """Where the enquiry would go. Unless the disposition is `route`, stream, theme and mentoring are None."""

    model_config = ConfigDict(frozen=True)

    disposition: Disposition
    stream: Stream | None = None
    areas: tuple[Area, ...] = ()
    pilot_theme: Theme | None = None
    mentoring: MentoringKind | None = None


class Reading(BaseModel):
    """What rules and model make of a mail. `sure` says whether it may be acted on without a person.

    `model` is the id of the model that had a say, or None where there were only rules. `reason` is a stable
    code (`needs-match` for `route`), `says` the sentence for people, `scores` the points behind the choice,
    and `confidence` between 0 and 1.
    """

    model_config = ConfigDict(frozen=True)

    guess: Guess
    reason: str
    says: str
    sure: bool
    confidence: float
    eligibility: Eligibility
    urgency: Literal["urgent", "normal"]
    scores: dict[str, float]
    facts: tuple[Fact, ...]
    model: str | None = None


def read(mail: Mail, rules: Rules, model: Model | None = None) -> Reading:
    """The reading of `mail` by `rules`, and by `model` where there is one."""
    examined = examine(mail, rules)
    if model is None:
        return examined.reading
    return weigh(examined, model.judge(examined.features), model.calibration, model.id, rules)


@dataclass(frozen=True, slots=True)
class Examined:
    """What the rules alone make of a mail, and what the model gets to see of it. `asides` are the disposition
    rules' points as shares of what decides."""

    mail: Mail
    reading: Reading
    features: Features
    asides: dict[str, float]


def examine(mail: Mail, rules: Rules) -> Examined:
    """The first half of a reading."""
    page = open_page(mail, rules)
    about = circumstances(page)
    tally = tally_needs(page, about.places, rules)
    needs = tally.totals(rules.scoring.background_limit)

    asides, aside_facts = _asides(page, needs, about, rules)
    guess, reason, says, confidence = _choose(
        _Findings(tally, needs, asides, about, len(page.words.texts)), rules
    )
    urgent = about.pressing and guess.disposition in {"route", "review"}
    eligibility: Eligibility = "eligible" if about.left and about.say and not about.doubtful else "unclear"
    if reason == "ineligible":
        eligibility = "ineligible"
    if reason in _ASKS_NOTHING:
        eligibility = "unclear"
    if reason in rules.by_reason and rules.by_reason[reason].urgent:
        urgent = True
    # Every document carries its facts through each write, so only the most telling of each sort are kept.
    facts = (*_telling(aside_facts), *_telling(tally.facts), *_telling(about.facts))
    reading = Reading(
        guess=guess,
        reason=reason,
        says=says,
        sure=confidence >= rules.confidence.route,
        confidence=round(confidence, 3),
        eligibility=eligibility,
        urgency="urgent" if urgent else "normal",
        scores={name: points for name, points in {**needs, **asides}.items() if points},
        facts=facts,
    )
    features = features_of(page, needs, tally.asked, asides, about.told())
    return Examined(mail, reading, features, asides)


def weigh(
    examined: Examined, verdict: Verdict, calibration: Calibration, model: str, rules: Rules
) -> Reading:
    """The rules' reading weighed again with the model's verdict. What the programme marks `always` stays as
    the rules say."""
    ruled = examined.reading
    facts = (*ruled.facts, *_spoken(verdict, examined))
    rule = rules.by_reason.get(ruled.reason)
    if rule is not None and rule.always:
        return ruled.model_copy(update={"facts": facts, "model": model})
    found = verdict.best("destination")
    chances = verdict.heads["destination"]
    guess = guess_of(found, verdict)
    reason, says, confidence, sure = "needs-match", _sentence(guess), chances[found], False
    eligibility = cast(Eligibility, verdict.best("eligibility"))
    if guess.disposition == "route":
        evidence = evidence_of(examined, verdict)
        confidence = calibration.confidence(evidence)
        # A fact that rules a body out is always confirmed by a person.
        sure = (
            confidence >= calibration.route
            and evidence.aside < 1
            and "ineligible" not in (eligibility, ruled.eligibility)
        )
    else:
        reason, says = _why_aside(guess.disposition, examined.asides, rules)
        if guess.disposition != "review" and eligibility == "eligible":
            eligibility = "unclear"
    urgent = verdict.heads["urgency"]["urgent"] >= 0.5 and guess.disposition in {"route", "review"}
    return Reading(
        guess=guess,
        reason=reason,
        says=says,
        sure=sure,
        confidence=round(confidence, 3),
        eligibility=eligibility,
        urgency="urgent" if urgent else "normal",
        scores={
            **ruled.scores,
            **{f"model {label}": round(p, 3) for label, p in chances.items() if p >= 0.05},
        },
        facts=facts,
        model=model,
    )


def evidence_of(examined: Examined, verdict: Verdict) -> Evidence:
    """What the confidence in the model's choice rests on."""
    chances = verdict.heads["destination"]
    found = verdict.best("destination")
    rival = max(chance for label, chance in chances.items() if label != found)
    ruled = examined.reading
    return Evidence(
        margin=math.log((chances[found] + 1e-9) / (rival + 1e-9)),
        agreement=label_of(ruled.guess) == found,
        rules=ruled.confidence if label_of(ruled.guess) == found else 0.0,
        aside=max(examined.asides.values(), default=0.0),
    )


def label_of(guess: Guess) -> str:
    """The model's name for where a guess leads: a disposition, or the main need."""
    if guess.disposition != "route":
        return guess.disposition
    return guess.pilot_theme or next(iter(guess.areas), None) or guess.mentoring or "review"


def guess_of(label: str, verdict: Verdict) -> Guess:
    """The guess that `label` stands for; further areas and mentoring come from their own heads."""
    areas = verdict.heads["areas"]
    likely = sorted((area for area in AREAS if areas[area] >= SECOND_AREA), key=lambda area: -areas[area])
    if label == "review":
        certain = tuple(area for area in likely if areas[area] >= CERTAIN_AREA)
        return Guess(disposition="review", areas=certain)
    if label in {"out-of-scope", "auto"}:
        return Guess(disposition=cast(Disposition, label))
    theme = next((theme for theme in THEMES if theme == label), None)
    if theme:
        return Guess(disposition="route", stream="pilot", pilot_theme=theme)
    kind = next((kind for kind in MENTORING if kind == label), None)
    if kind:
        return Guess(disposition="route", stream="advice", areas=tuple(likely), mentoring=kind)
    main = next(area for area in AREAS if area == label)
    asked = verdict.best("mentoring")
    return Guess(
        disposition="route",
        stream="advice",
        areas=(main, *(area for area in likely if area != main)),
        mentoring=next((kind for kind in MENTORING if kind == asked), None),
    )


def _why_aside(disposition: Disposition, asides: dict[str, float], rules: Rules) -> tuple[str, str]:
    """The reason for holding a mail aside: the rule that speaks most for it, or that it reads like others."""
    speaking = [
        rule for rule in rules.dispositions
        if rule.disposition == disposition and asides.get(rule.reason, 0.0) >= HALF_MET
    ]  # fmt: skip
    if speaking:
        rule = max(speaking, key=lambda rule: asides[rule.reason])
        return rule.reason, rule.says
    return f"reads-like-{disposition}", _READS_LIKE[disposition]


def _spoken(verdict: Verdict, examined: Examined) -> list[Fact]:
    """The words that spoke most for the model's choice, where they stand in the text."""
    facts = []
    for term, counts in verdict.reasons:
        start, end = examined.features.at.get(term, (0, 0))
        if end:
            words = examined.mail.text[start : min(end, start + LONGEST_WORDS)]
            facts.append(
                Fact(
                    rule="model",
                    words=words,
                    where="text",
                    start=start,
                    end=start + len(words),
                    counts=counts,
                )
            )
    return facts


def _telling(facts: list[Fact]) -> list[Fact]:
    ranked = sorted(facts, key=lambda fact: (-fact.counts, fact.where, fact.start, fact.rule))
    return ranked[:MOST_FACTS]


_ASKS_NOTHING = frozenset({"automatic", "job-application", "sales", "spam", "misdirected"})


def _asides(
    page: Page, needs: dict[str, float], about: About, rules: Rules
) -> tuple[dict[str, float], list[Fact]]:
    """Points of every disposition rule, as shares of its threshold (1 decides), and the words behind them."""
    places: tuple[tuple[str, Where, Found], ...] = (
        (page.mail.subject, "subject", page.in_subject),
        (page.sender, "sender", page.in_sender),
        (page.mail.text, "text", page.in_text),
    )
    shares: dict[str, float] = {}
    facts: list[Fact] = []
    for rule in rules.dispositions:
        field = f"aside {rule.reason}"
        said: set[str] = set()
        total = 0.0
        for source, where, hits in places:
            for hit in hits.get(field, ()):
                part = page.clause(hit).kind if where == "text" else where
                spoken = source[hit.start : hit.end].lower()
                if part in rule.where and spoken not in said:
                    said.add(spoken)
                    total += hit.weight
                    facts.append(fact_of(rule.reason, source, where, hit, hit.weight))
        if total and _applies(rule, needs):
            # A body that tells how it left and who has a say is genuine: it takes more to send it away.
            genuine = 1.0 if rule.disposition == "review" else 1.0 + 0.5 * (about.left + about.say)
            shares[rule.reason] = round(total / (rule.threshold * genuine), 2)
    return shares, facts


def _applies(rule: DispositionRule, needs: dict[str, float]) -> bool:
    if rule.unless_need is not None and max(needs.values()) >= rule.unless_need:
        return False
    if rule.both_streams is not None:
        weaker = min(max(needs[area] for area in AREAS), max(needs[theme] for theme in THEMES))
        return weaker >= rule.both_streams
    return True


@dataclass(frozen=True, slots=True)
class _Findings:
    """All that a choice is made from. `length` is in words."""

    tally: Tally
    needs: dict[str, float]
    asides: dict[str, float]
    about: About
    length: int


def _choose(found: _Findings, rules: Rules) -> tuple[Guess, str, str, float]:
    """The best guess, its reason and sentence, and the confidence in it."""
    needs, asides, about = found.needs, found.asides, found.about
    needs_first = max(needs[area] for area in AREAS)
    aside = _aside(asides, rules)
    if aside is not None:
        certain = needs_first >= rules.confidence.certain_points and aside.disposition == "review"
        guess = Guess(disposition=aside.disposition, areas=_areas(needs, rules) if certain else ())
        return guess, aside.reason, aside.says, min(0.99, 0.6 + 0.2 * asides[aside.reason])
    ranked = sorted(needs.items(), key=lambda item: (-item[1], item[0]))
    points = ranked[0][1]
    stranger = not (about.relevant or about.left or about.say)
    if points < (rules.confidence.least_points_of_strangers if stranger else rules.confidence.least_points):
        if stranger and found.length > rules.confidence.short:
            return (
                Guess(disposition="out-of-scope"),
                "misdirected",
                "It says nothing of a mutual or of anything the programme helps with.",
                0.4,
            )
        return (
            Guess(disposition="review"),
            "too-vague",
            "It says too little of what is wanted to choose a stream.",
            0.5,
        )
    areas = _areas(needs, rules)
    guess = _routed(needs, areas, rules)
    chosen = guess.mentoring or guess.pilot_theme or areas[0]
    rival = max((value for name, value in needs.items() if name != chosen), default=0.0)
    margin = max(0.0, needs[chosen] - rival) / (needs[chosen] + rules.confidence.smoothing)
    strength = needs[chosen] / (needs[chosen] + rules.confidence.smoothing)
    doubt = max(asides.values(), default=0.0)
    # One telling phrase may be a slip or a figure of speech; several different ones hardly are.
    evidence = len(
        {fact.words.lower() for fact in found.tally.facts if fact.rule == chosen and fact.counts >= 2}
    )
    confidence = (0.5 * strength + 0.5 * margin + 0.15) * (1 - 0.5 ** (evidence + 1))
    confidence = max(0.0, min(0.99, confidence - rules.confidence.aside * doubt))
    return guess, "needs-match", _sentence(guess), confidence


def _aside(asides: dict[str, float], rules: Rules) -> DispositionRule | None:
    """The first rule, in the programme's order, that reaches its threshold."""
    return next((rule for rule in rules.dispositions if asides.get(rule.reason, 0.0) >= 1), None)


def _routed(needs: dict[str, float], areas: tuple[Area, ...], rules: Rules) -> Guess:
    theme = max(THEMES, key=lambda name: needs[name])
    kind = max(MENTORING, key=lambda name: needs[name])
    area_points = needs[areas[0]] if areas else 0.0
    enough = rules.confidence.mentoring_points if areas else 0.0
    if needs[kind] >= max(enough, needs[theme]):
        topics = tuple(area for area in areas if needs[area] >= rules.confidence.topic_points)
        return Guess(disposition="route", stream="advice", areas=topics, mentoring=kind)
    if needs[theme] > area_points:
        return Guess(disposition="route", stream="pilot", pilot_theme=theme)
    return Guess(disposition="route", stream="advice", areas=areas)


def _areas(needs: dict[str, float], rules: Rules) -> tuple[Area, ...]:
    """Areas with points, main need first; a second only where it is worth a good part of the first."""
    ranked = sorted((area for area in AREAS if needs[area] > 0), key=lambda area: -needs[area])
    if not ranked:
        return ()
    floor = needs[ranked[0]] * rules.scoring.second_area
    return tuple(area for area in ranked[:2] if needs[area] >= floor)


def _sentence(guess: Guess) -> str:
    def plain(names: Iterable[str]) -> str:
        return ", then ".join(name.replace("-", " ") for name in names)

    if guess.pilot_theme:
        return f"It asks to join a pilot of {plain([guess.pilot_theme])}."
    topics = f" on {plain(guess.areas)}" if guess.areas else ""
    if guess.mentoring == "one-to-one":
        return f"It asks for an experienced person to talk to{topics}."
    if guess.mentoring == "peer-network":
        return f"It asks to share experience with others on the same way{topics}."
    return f"It asks for advice{topics}."
