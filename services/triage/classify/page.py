"""A mail taken apart for the rules: its clauses, what each does, and every phrase found in it."""

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from services.triage.classify.parts import Kind, Part, parts_of, passages_of
from services.triage.classify.words import Hit, Words, flat, words_of
from services.triage.programme import Rules, Scoring

Where = Literal["subject", "sender", "text"]
Found = Mapping[str, Sequence[Hit]]  # by field of the lexicon
FEW_CLAUSES = 3
LONGEST_WORDS = 200  # one endless "word" must not put a second copy of the mail into the case
READ_CHARACTERS = 20_000  # a mail's request stands in its first pages; the bound keeps a hostile one cheap

_TURNS = frozenset({"but", "however", "although", "though", "whereas"})
_PREFIX = re.compile(r"^\s*(?:(?:re|fw|fwd|aw|wg)\s*(?:\[\d+\])?\s*:\s*)+", re.IGNORECASE)
_FORWARD = re.compile(r"^\s*(?:re\s*:\s*)*(?:fw|fwd|wg)\s*:", re.IGNORECASE)
_SEE_BELOW = re.compile(
    r"\b(?:see|as|copied|email|mail|message|chain|thread) (?:below|chain)|see chain|passing (?:this|it) on"
    r"|forwarding (?:this|the)|forwarded? (?:below|from)|trail below"
)


class Mail(NamedTuple):
    subject: str
    text: str
    sender_name: str = ""
    sender_address: str = ""


class Fact(BaseModel):
    """Words that a rule found. `start` and `end` are offsets into the subject, the sender or the text."""

    model_config = ConfigDict(frozen=True)

    rule: str
    words: str
    where: Where
    start: int
    end: int
    counts: float


@dataclass(slots=True)
class Clause:
    """A run of words inside one passage, and what it does. Positions are of words; `-1` means nowhere."""

    passage: int
    kind: Kind
    first: int
    last: int
    listed: bool
    question: bool
    asks: bool = False
    covered: bool = False
    main: bool = False
    unwanted_from: int = -1
    second_from: int = -1
    base: float = 0.0
    place: float = 1.0


@dataclass(frozen=True, slots=True)
class Page:
    """A mail with what was found in it. `clause_of` gives, for each word, the clause it is in."""

    mail: Mail
    scoring: Scoring
    text: str
    words: Words
    clauses: list[Clause]
    clause_of: list[int]
    in_text: Found
    in_subject: Found
    in_sender: Found

    def clause(self, hit: Hit) -> Clause:
        return self.clauses[self.clause_of[hit.first]]

    @property
    def sender(self) -> str:
        return sender_line(self.mail)


def sender_line(mail: Mail) -> str:
    return f"{mail.sender_name} {mail.sender_address}"


def open_page(mail: Mail, rules: Rules) -> Page:
    """The mail, split, searched once, and every clause weighed by what it does."""
    text = flat(mail.text[:READ_CHARACTERS])
    parts = parts_of(text)
    words = words_of(text)
    clauses, clause_of = _clauses(text, words, parts)
    page = Page(
        mail=mail,
        scoring=rules.scoring,
        text=text,
        words=words,
        clauses=clauses,
        clause_of=clause_of,
        in_text=rules.lexicon.find(words),
        in_subject=rules.lexicon.find(words_of(flat(_bare(mail.subject)))),
        in_sender=rules.lexicon.find(words_of(flat(sender_line(mail)))),
    )
    _mark(page)
    forwarded = bool(_FORWARD.match(mail.subject)) or bool(_SEE_BELOW.search(text[:1500]))
    _weigh(clauses, rules, forwarded)
    return page


def _clauses(text: str, words: Words, parts: list[Part]) -> tuple[list[Clause], list[int]]:
    """Clauses in order, and for each word the clause it is in."""
    clauses: list[Clause] = []
    clause_of: list[int] = []
    first = 0
    for number, passage in enumerate(passages_of(text, parts)):
        after = bisect_left(words.starts, passage.end, first)
        if first == after:
            continue
        question = "?" in text[passage.start : passage.end].rstrip()[-3:]
        turns = [at for at in range(first + 1, after) if words.texts[at] in _TURNS]
        for begins, ends in pairwise((first, *turns, after)):
            clause_of.extend([len(clauses)] * (ends - begins))
            clauses.append(Clause(number, passage.kind, begins, ends - 1, passage.listed, question))
        first = after
    return clauses, clause_of


def _mark(page: Page) -> None:
    for hit in page.in_text.get("ask", ()):
        page.clause(hit).asks = True
    for hit in page.in_text.get("covered", ()):
        page.clause(hit).covered = True
    for hit in page.in_text.get("main", ()):
        page.clause(hit).main = True
    for hit in page.in_text.get("unwanted", ()):
        clause = page.clause(hit)
        if clause.unwanted_from < 0:
            clause.unwanted_from = hit.first
    for hit in page.in_text.get("second", ()):
        clause = page.clause(hit)
        if clause.second_from < 0:
            clause.second_from = hit.first


def _weigh(clauses: list[Clause], rules: Rules, forwarded: bool) -> None:
    """Gives every clause its base weight by part, by whether its passage asks, and by its neighbours."""
    scoring = rules.scoring
    asking = {
        clause.passage for clause in clauses if (clause.asks or clause.question) and clause.unwanted_from < 0
    }
    introduced = False
    for clause in clauses:
        if clause.listed:
            if introduced:
                asking.add(clause.passage)
                clause.asks = True
        else:
            # "After that, a lawyer to check it" asks as much as the sentence before did
            if clause.passage - 1 in asking and 0 <= clause.second_from - clause.first <= 1:
                asking.add(clause.passage)
            introduced = clause.passage in asking
    for clause in clauses:
        if clause.kind == "own":
            if clause.passage in asking:
                clause.base = scoring.asked
            elif clause.passage - 1 in asking or clause.passage + 1 in asking:
                clause.base = scoring.beside_asked
            else:
                clause.base = scoring.background
        elif clause.kind == "quoted" and forwarded:
            clause.base = scoring.quoted * (scoring.asked if clause.passage in asking else scoring.background)
    _place(clauses, scoring)


def _place(clauses: list[Clause], scoring: Scoring) -> None:
    """Lets what stands late count more: people tell their story first and ask last."""
    own = [clause for clause in clauses if clause.kind == "own"]
    if len(own) > FEW_CLAUSES:
        for place, clause in enumerate(own):
            if place >= 0.6 * len(own):
                clause.place = scoring.late
            elif place < 0.25 * len(own):
                clause.place = scoring.early


def _bare(subject: str) -> str:
    """The subject with its "Re:" and "Fwd:" blanked, so that offsets stay."""
    prefix = _PREFIX.match(subject)
    return " " * prefix.end() + subject[prefix.end() :] if prefix else subject


def fact_of(rule: str, source: str, where: Where, hit: Hit, counts: float) -> Fact:
    """The fact that `rule` found `hit` in `source`, in the words as written, cut at `LONGEST_WORDS`."""
    end = min(hit.end, hit.start + LONGEST_WORDS)
    return Fact(
        rule=rule,
        words=source[hit.start : end],
        where=where,
        start=hit.start,
        end=end,
        counts=round(counts, 2),
    )
