"""What the model sees of a mail: its words by what their clause does, and what the rules made of it.

Only words and numbers come out, so the trained model can be read: each weight belongs to a word somewhere.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise

from services.triage.classify.model import Features
from services.triage.classify.needs import FILLERS, NOT, denied
from services.triage.classify.page import Page
from services.triage.classify.words import flat, words_of

_BACKGROUND, _BESIDE, _ASKED, _COVERED = 0.4, 0.6, 1.0, 0.5
_LONG = 4


@lru_cache(maxsize=16384)  # bounded, because the words come from strangers
def stem(word: str) -> str:
    """A word without its commonest endings, so that "leases" meets "lease"; figures become one term."""
    if word[0].isdigit() or word[0] == "£":
        return "#"
    if len(word) > _LONG:
        if word.endswith("ies"):
            word = word[:-3] + "y"
        elif word.endswith(("sses", "ches", "shes", "xes")):
            word = word[:-2]
        elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
            word = word[:-1]
    if len(word) > _LONG + 1 and word.endswith("ing"):
        word = word[:-3]
    elif (len(word) > _LONG and word.endswith("ed")) or (len(word) > _LONG + 1 and word.endswith("ly")):
        word = word[:-2]
    if len(word) >= _LONG and word[-1] == "e":
        word = word[:-1]
    if len(word) >= _LONG and word[-1] == word[-2] and word[-1] in "bdgmnprt":
        word = word[:-1]
    return word


def features_of(
    page: Page,
    needs: Mapping[str, float],
    asked: Mapping[str, float],
    asides: Mapping[str, float],
    facts: Mapping[str, bool],
) -> Features:
    """The features of a mail that has been opened and tallied."""
    found = Features()
    _words(found, page)
    subject = [stem(word) for word in words_of(flat(page.mail.subject)).texts]
    _put_all(found.terms["subject"], subject)
    _put_all(found.terms["subject"], [" ".join(pair) for pair in pairwise(subject)])
    name = flat(page.mail.sender_address).split("@")[0]
    _put_all(found.terms["sender"], words_of(name).texts)
    _points(found.points, needs, asked, asides, facts)
    own = [clause for clause in page.clauses if clause.kind == "own"]
    found.points["length"] = math.log1p(len(page.words.texts)) / 5
    found.points["questions"] = min(3, sum(clause.question for clause in own)) / 3
    found.points["asks"] = min(8, sum(clause.asks for clause in own)) / 5
    return found


def _put_all(block: dict[str, float], terms: list[str]) -> None:
    for term in terms:
        block[term] = 1.0


def _words(found: Features, page: Page) -> None:
    text, asked, pairs = found.terms["text"], found.terms["asked"], found.terms["pairs"]
    declined, around = found.terms["declined"], found.terms["around"]
    scoring, words = page.scoring, page.words.texts
    stems = [stem(word) for word in words]
    weights = {scoring.asked: _ASKED, scoring.beside_asked: _BESIDE}
    for clause in page.clauses:
        if not clause.base:
            around.update(dict.fromkeys(stems[clause.first : clause.last + 1], 1.0))
            continue
        full = weights.get(clause.base, _BACKGROUND) * clause.place
        part = full * _COVERED if clause.covered else full
        asks = clause.base >= scoring.asked
        before = said = ""
        for position in range(clause.first, clause.last + 1):
            term = stems[position]
            if 0 <= clause.unwanted_from <= position or (
                (said in NOT or said in FILLERS) and denied(words, position, clause.first)
            ):
                declined[term] = 1.0
            else:
                if before:
                    pair = f"{before} {term}"
                    if full > pairs.get(pair, 0.0):
                        pairs[pair] = full
                if part > text.get(term, 0.0):
                    text[term] = part
                    found.at[term] = (page.words.starts[position], page.words.ends[position])
                if asks:
                    asked[term] = 1.0
            before, said = term, words[position]


def _points(
    points: dict[str, float],
    needs: Mapping[str, float],
    asked: Mapping[str, float],
    asides: Mapping[str, float],
    facts: Mapping[str, bool],
) -> None:
    total = sum(needs.values()) + 6
    for need, value in needs.items():
        points[f"share {need}"] = value / total
        points[f"points {need}"] = math.log1p(value) / 3
        points[f"asked {need}"] = math.log1p(asked.get(need, 0.0)) / 3
    for reason, share in asides.items():
        points[f"aside {reason}"] = min(share, 2.0)
    for fact, told in facts.items():
        points[f"fact {fact}"] = float(told)
