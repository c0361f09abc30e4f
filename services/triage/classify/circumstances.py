"""What a mail states of its sender: where the body came from, whether its staff have a say, and how soon it must be."""

import re
from dataclasses import dataclass

from services.triage.classify.page import Fact, Page, fact_of

_NUMBERS = {
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
    "eleven": 11,
    "twelve": 12,
    "thirteen": 13,
    "fourteen": 14,
}
# Begins with a plain word, which is quick to look for; the number before it is read when it is found.
_DAYS_AWAY = re.compile(r"days?\s+(?:away|from|left|to go|time|until|before|to\s)")
_HOW_MANY = re.compile(r"\b(\d{1,2}|" + "|".join(_NUMBERS) + r")\s+(?:working\s+)?$")


@dataclass(slots=True)
class About:
    """What a mail states of its sender. `places` are the positions of the words that say so."""

    left: bool
    say: bool
    doubtful: bool
    relevant: bool
    pressing: bool
    places: frozenset[int]
    facts: list[Fact]

    def told(self) -> dict[str, bool]:
        return {
            "left": self.left,
            "staff-say": self.say,
            "doubtful": self.doubtful,
            "relevant": self.relevant,
            "pressing": self.pressing,
        }


def circumstances(page: Page) -> About:
    """Origin, staff's say and haste from stated facts. Quoted mail states nothing about the sender."""
    facts: list[Fact] = []
    told: dict[str, bool] = {}
    places: set[int] = set()
    for name in ("left", "staff-say", "doubtful", "relevant", "urgency", "not-urgent"):
        told[name] = name in {"urgency", "relevant"} and bool(page.in_subject.get(name))
        for hit in page.in_text.get(name, ()):
            kind = page.clause(hit).kind
            if kind == "own" or (kind in {"signature", "quoted"} and name == "relevant"):
                told[name] = True
                facts.append(fact_of(name, page.mail.text, "text", hit, 1.0))
                if name in {"left", "staff-say"}:
                    places.update(range(hit.first, hit.last + 1))
    for match in _DAYS_AWAY.finditer(page.text):
        before = max(match.start() - 30, 0)
        count = _HOW_MANY.search(page.text[before : match.start()])
        if count and (_NUMBERS.get(count.group(1)) or int(count.group(1))) <= 14:
            told["urgency"] = True
            facts.append(
                Fact(
                    rule="urgency",
                    words=page.mail.text[before + count.start() : match.end()],
                    where="text",
                    start=before + count.start(),
                    end=match.end(),
                    counts=1.0,
                )
            )
    return About(
        left=told["left"],
        say=told["staff-say"],
        doubtful=told["doubtful"],
        relevant=told["relevant"],
        pressing=told["urgency"] and not told["not-urgent"],
        places=frozenset(places),
        facts=facts,
    )
