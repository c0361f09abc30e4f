"""Finds the programme's phrases in a text in one pass over its words, however many phrases there are.

Hundreds of regular expressions over one mail cost tens of milliseconds; an index by first word costs a
fraction of one, and the phrases stay readable data.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

# A word is letters and digits with an inner apostrophe; a hyphen separates, so "employee-owned" is two words
# and meets "employee owned". The possessive is dropped, so that "council's" meets "council".
_WORD = re.compile(r"[a-z0-9£]+(?:'[a-z]+)?")
_GAP = re.compile(r"~(\d+)$")
_MACRO = re.compile(r"\{([a-z-]+)\}")
_FLAT = str.maketrans(
    {"’": "'", "‘": "'", "\u02bc": "'", "“": '"', "”": '"', "\u00a0": " ", "–": "-", "—": "-"}
)
SHORTEST_PREFIX = 2


def flat(text: str) -> str:
    """`text` in lower case with plain quotes and dashes; offsets stay those of `text`."""
    lowered = text.lower()
    if len(lowered) != len(
        text
    ):  # a few letters grow when lowered ("İ"), which would shift every offset after
        lowered = "".join(low if len(low := char.lower()) == 1 else char for char in text)
    return lowered.translate(_FLAT)


class Words(NamedTuple):
    """The words of a text, and the offsets at which each starts and ends. Columns rather than one object a
    word: every mail goes through here several times."""

    texts: list[str]
    starts: list[int]
    ends: list[int]


def words_of(flattened: str) -> Words:
    """The words of a text that `flat` has gone over, with their offsets."""
    spans = [match.span() for match in _WORD.finditer(flattened)]
    texts = [flattened[start:end].removesuffix("'s") for start, end in spans]
    return Words(texts, [start for start, _ in spans], [end for _, end in spans])


@dataclass(frozen=True, slots=True)
class Element:
    """One place in a phrase: any of some words or beginnings of words, after at most `gap` others."""

    words: frozenset[str]
    prefixes: tuple[str, ...]
    gap: int = 0

    def meets(self, word: str) -> bool:
        return word in self.words or (bool(self.prefixes) and word.startswith(self.prefixes))


class Phrase(NamedTuple):
    field: str
    group: str
    weight: float
    rest: tuple[Element, ...]


class Beginning(NamedTuple):
    """The phrases that begin with one word: those that are that word alone, those whose second word must
    follow at once, by that word, which most do and few find, and the others."""

    alone: tuple[Phrase, ...]
    by_second: dict[str, list[Phrase]]
    others: tuple[Phrase, ...]


class Hit(NamedTuple):
    """A phrase found: `first` and `last` are word positions (inclusive), `start` and `end` offsets."""

    group: str
    weight: float
    first: int
    last: int
    start: int
    end: int


def parse_phrase(written: str, macros: Mapping[str, Sequence[str]]) -> tuple[Element, ...]:
    """A phrase as elements.

    The notation: `word`, `begin*`, `one|other`, `{macro}` for a named list of alternatives, and `~3` for up
    to three words in between. Raises ValueError with the reason for anything else.
    """
    elements: list[Element] = []
    gap = 0
    for part in written.split():
        if distance := _GAP.match(part):
            if not elements:
                raise ValueError(f"the phrase {written!r} begins with a gap")
            gap = int(distance.group(1))
            continue
        elements.append(_element(part, gap, written, macros))
        gap = 0
    if not elements or gap:
        raise ValueError(f"the phrase {written!r} is empty or ends with a gap")
    return tuple(elements)


def _element(part: str, gap: int, written: str, macros: Mapping[str, Sequence[str]]) -> Element:
    alternatives: list[str] = []
    for choice in part.split("|"):
        if macro := _MACRO.fullmatch(choice):
            if macro.group(1) not in macros:
                raise ValueError(f"the phrase {written!r} names the unknown list {macro.group(1)!r}")
            alternatives.extend(macros[macro.group(1)])
        else:
            alternatives.append(choice)
    exact, prefixes = set[str](), []
    for choice in alternatives:
        # Without the possessive, as the words of a text are: "who's done it" is looked for as "who done it".
        stem = choice.removesuffix("*").removesuffix("'s")
        if not _WORD.fullmatch(stem):
            raise ValueError(f"the phrase {written!r} has {choice!r}, which is not one lower-case word")
        if not choice.endswith("*"):
            exact.add(stem)
        elif len(stem) >= SHORTEST_PREFIX:
            prefixes.append(stem)
        else:
            raise ValueError(f"the phrase {written!r} has {choice!r}, which would match too much")
    return Element(frozenset(exact), tuple(prefixes), gap)


class Entry(NamedTuple):
    """A phrase to look for: it counts `weight` for `group` and competes with others of its `field`."""

    field: str
    group: str
    weight: float
    phrase: str


class Lexicon:
    """Phrases found together in one pass.

    Where two of one field overlap the longer wins, whatever its group: "employment contract" is not also
    "contract", nor a "partnership agreement" a "partnership". Fields don't touch each other.
    """

    def __init__(self, entries: Iterable[Entry], macros: Mapping[str, Sequence[str]]) -> None:
        """Raises ValueError for a phrase it can't read."""
        exact: dict[str, list[Phrase]] = {}
        prefixed: dict[str, list[Phrase]] = {}
        for field, group, weight, written in entries:
            first, *rest = parse_phrase(written, macros)
            phrase = Phrase(field, group, weight, tuple(rest))
            for word in first.words:
                exact.setdefault(word, []).append(phrase)
            for prefix in first.prefixes:
                prefixed.setdefault(prefix, []).append(phrase)
        self._exact = exact
        self._prefixed = prefixed
        self._lengths = sorted({len(prefix) for prefix in prefixed})
        # Most words of a mail are common ones; the cache is bounded because the words come from strangers.
        self._starting = lru_cache(maxsize=8192)(self._phrases_starting)

    def _phrases_starting(self, word: str) -> Beginning | None:
        found = list(self._exact.get(word, ()))
        for length in self._lengths:
            if length > len(word):
                break
            found.extend(self._prefixed.get(word[:length], ()))
        if not found:
            return None
        by_second: dict[str, list[Phrase]] = {}
        others = []
        for phrase in found:
            if phrase.rest and not phrase.rest[0].gap and not phrase.rest[0].prefixes:
                for second in phrase.rest[0].words:
                    by_second.setdefault(second, []).append(phrase)
            elif phrase.rest:
                others.append(phrase)
        return Beginning(tuple(phrase for phrase in found if not phrase.rest), by_second, tuple(others))

    def find(self, words: Words) -> dict[str, list[Hit]]:
        """By field, every phrase found, in order, without those that a longer one covers."""
        found: dict[str, list[Hit]] = {}
        texts, starts, ends = words
        for position, beginning in enumerate(map(self._starting, texts)):
            if beginning is None:
                continue
            alone, by_second, others = beginning
            start = starts[position]
            for field, group, weight, _ in alone:
                hit = Hit(group, weight, position, position, start, ends[position])
                found.setdefault(field, []).append(hit)
            if by_second and position + 1 < len(texts):
                others = (*others, *by_second.get(texts[position + 1], ()))
            for field, group, weight, rest in others:
                last = _follow(rest, texts, position)
                if last >= 0:
                    hit = Hit(group, weight, position, last, start, ends[last])
                    found.setdefault(field, []).append(hit)
        return {field: _longest(hits) for field, hits in found.items()}


def _follow(rest: tuple[Element, ...], words: Sequence[str], position: int) -> int:
    """The position of the last word when `rest` follows `position`, or -1. The nearest match is taken."""
    for element in rest:
        for candidate in range(position + 1, min(position + 2 + element.gap, len(words))):
            if element.meets(words[candidate]):
                position = candidate
                break
        else:
            return -1
    return position


def _longest(hits: list[Hit]) -> list[Hit]:
    """Hits without those lying inside or across a longer one; equal spans of different groups all stay."""
    if len(hits) < 2:
        return hits
    taken: dict[int, tuple[int, int]] = {}
    kept: list[Hit] = []
    seen: set[tuple[str, int, int]] = set()
    for hit in sorted(hits, key=lambda hit: (hit.first - hit.last, hit.first, -hit.weight, hit.group)):
        span = (hit.first, hit.last)
        identity = (hit.group, *span)
        inside = range(hit.first, hit.last + 1)
        if identity in seen or any(taken.get(place, span) != span for place in inside):
            continue
        seen.add(identity)
        kept.append(hit)
        for place in inside:
            taken[place] = span
    kept.sort(key=lambda hit: (hit.first, hit.group))
    return kept
