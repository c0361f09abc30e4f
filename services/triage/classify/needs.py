"""What is asked for: points for each area, pilot theme and kind of mentoring, by where their words stand."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.triage.classify.page import Clause, Fact, Page, fact_of
from services.triage.programme import AREAS, MENTORING, THEMES, Rules

NOT = frozenset({"not", "isn't", "aren't", "wasn't", "nor", "never", "without"})
FILLERS = frozenset(
    {"a", "an", "the", "our", "any", "about", "really", "just", "so", "much", "in", "of", "for", "more"}
)


@dataclass(slots=True)
class Tally:
    """Points for the needs as they are found, kept apart by whether they were asked for."""

    asked: dict[str, float] = field(default_factory=dict)
    told: dict[str, float] = field(default_factory=dict)
    seen: dict[tuple[str, str], int] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)

    def add(self, need: str, points: float, asked: bool) -> None:
        side = self.asked if asked else self.told
        side[need] = side.get(need, 0.0) + points

    def totals(self, limit: float) -> dict[str, float]:
        """Points for each need, the story's share scaled so that all of it is at most `limit`."""
        told = sum(self.told.values())
        scale = min(1.0, limit / told) if told else 0.0
        return {
            need: round(self.asked.get(need, 0.0) + scale * self.told.get(need, 0.0), 2)
            for need in (*AREAS, *THEMES, *MENTORING)
        }


def tally_needs(page: Page, about_sender: frozenset[int], rules: Rules) -> Tally:
    """The needs' points. `about_sender` are the places of words that say who they are ("staff-owned"),
    which ask for nothing."""
    tally = Tally()
    _score_subject(tally, page, rules)
    _score_text(tally, page, about_sender, rules)
    _score_together(tally, page, rules)
    return tally


def _score_subject(tally: Tally, page: Page, rules: Rules) -> None:
    for hit in page.in_subject.get("needs", ()):
        points = hit.weight * rules.scoring.subject
        tally.add(hit.group, points, asked=False)
        tally.facts.append(fact_of(hit.group, page.mail.subject, "subject", hit, points))


def _score_text(tally: Tally, page: Page, about_sender: frozenset[int], rules: Rules) -> None:
    scoring = rules.scoring
    hits = page.in_text.get("needs", ())
    last_hit = {page.clause_of[hit.first]: hit.first for hit in hits}
    for hit in hits:
        number = page.clause_of[hit.first]
        clause = page.clauses[number]
        if not clause.base or hit.first in about_sender:
            continue
        points = hit.weight * clause.base * clause.place
        if (clause.unwanted_from >= 0 and hit.first >= clause.unwanted_from) or denied(
            page.words.texts, hit.first, clause.first
        ):
            points *= scoring.unwanted
        elif clause.covered:
            points *= scoring.covered
        if clause.second_from >= 0 and (
            hit.first >= clause.second_from or last_hit[number] < clause.second_from
        ):
            points *= scoring.second
        elif clause.main:
            points *= scoring.main
        said = (hit.group, page.words.texts[hit.first])
        tally.seen[said] = tally.seen.get(said, 0) + 1
        if tally.seen[said] > 1:
            points *= scoring.repeated ** (tally.seen[said] - 1)
        tally.add(hit.group, points, asked=clause.base >= scoring.asked)
        if points:
            tally.facts.append(fact_of(hit.group, page.mail.text, "text", hit, points))


def denied(words: Sequence[str], position: int, first: int) -> bool:
    """Whether the word at `position` stands under a "not" with at most fillers in between."""
    for before in range(position - 1, max(first, position - 4) - 1, -1):
        word = words[before]
        if word in NOT:
            return not (before + 1 < position and words[before + 1] in {"just", "only"})
        if word not in FILLERS:
            return False
    return False


def _score_together(tally: Tally, page: Page, rules: Rules) -> None:
    """Adds the needs that two ingredients in one passage speak for."""

    def passages(ingredient: str) -> dict[int, Clause]:
        held: dict[int, Clause] = {}
        for hit in page.in_text.get(ingredient, ()):
            clause = page.clause(hit)
            if clause.base and (clause.unwanted_from < 0 or hit.first < clause.unwanted_from):
                held.setdefault(clause.passage, clause)
        return held

    for both in rules.together:
        one, other = (passages(name) for name in both.both)
        for times, passage in enumerate(sorted(one.keys() & other.keys())):
            clause = one[passage]
            points = both.weight * clause.base * clause.place * rules.scoring.repeated**times
            tally.add(both.need, points, asked=clause.base >= rules.scoring.asked)
