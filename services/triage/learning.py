"""Fits the model's heads to labelled mails; see `services.triage.training`, which measures and publishes."""

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from services.triage.classify.model import (
    Verdict,
    sigmoid,
)
from services.triage.classify.page import Mail
from services.triage.classify.reading import Examined, examine
from services.triage.declining import declining
from services.triage.evaluate import records_in
from services.triage.programme import AREAS, MENTORING, THEMES, Rules

Numbers = NDArray[np.float64]
Indices = NDArray[np.int64]

FOLDS = 5
SEED = 20180924

HEADS: dict[str, tuple[str, ...]] = {
    "destination": ("auto", "out-of-scope", "review", *AREAS, *THEMES, *MENTORING),
    "areas": AREAS,
    "mentoring": ("none", *MENTORING),
    "eligibility": ("eligible", "ineligible", "unclear"),
    "urgency": ("normal", "urgent"),
}
STRENGTH = {"destination": 0.5, "areas": 1.0, "mentoring": 2.0, "eligibility": 1.0, "urgency": 1.0}
SHARPNESS = 3.0  # of the destination's chances: the machine's margins are made into odds by it
COPIES_COUNT = 0.5  # what a copy with something turned down counts beside the mail itself
# How much a block counts as words of its own, and by what its words mean (their vectors).
BLOCKS = {
    "text": (1.0, 1.0),
    "asked": (1.0, 1.0),
    "subject": (0.25, 0.3),
    "pairs": (0.2, 0.0),
    "declined": (0.1, 0.0),
    "around": (0.1, 0.0),
    "sender": (0.1, 0.0),
}
POINTS = 0.2  # how much the rules count beside the words


@dataclass(frozen=True, slots=True)
class Example:
    id: str
    examined: Examined
    labels: dict[str, Any]

    @property
    def destination(self) -> str:
        labels = self.labels
        if labels["disposition"] != "route":
            return str(labels["disposition"])
        return str(labels["pilot_theme"] or next(iter(labels["areas"]), labels["mentoring"]))


def examples_in(files: Sequence[Path], rules: Rules) -> list[Example]:
    """The labelled mails of JSON-lines files, each examined by the rules."""
    found = []
    for file in files:
        for record in records_in(file.read_text(encoding="utf-8")):
            mail = Mail(record["subject"], record["body"], record["from_name"], record["from_address"])
            found.append(Example(record["id"], examine(mail, rules), record["labels"]))
    return found


class WordVectors:
    """What common words mean, as numbers: words of the same meaning are near each other, so that what is
    learnt of "landlord" also helps with "lessor"."""

    def __init__(self, path: Path) -> None:
        written = json.loads(path.read_text(encoding="utf-8"))
        self.words: list[str] = written["words"].split()
        raw = np.frombuffer(base64.b64decode(written["vectors"]), dtype=np.int8)
        vectors = raw.reshape(len(self.words), written["dimensions"]).astype(np.float64)
        self.vectors: Numbers = vectors / np.sqrt((vectors**2).sum(axis=1).mean())


@dataclass(frozen=True, slots=True)
class Block:
    """One block of terms as columns: a weight for each as a word, and a direction for its meaning."""

    name: str
    terms: list[str]
    rarity: Numbers
    values: csr_matrix
    own: float
    meaning: Numbers

    @property
    def columns(self) -> Any:
        """Every mail in this block's numbers."""
        parts = [self.values * math.sqrt(self.own)]
        if self.meaning.size:
            parts.append(csr_matrix(self.values @ self.meaning))
        return hstack(parts).tocsr()

    def weights(self, learnt: Numbers) -> Numbers:
        """Weights for each term, from those for each of this block's columns."""
        words = len(self.terms)
        weights = learnt[:words] * math.sqrt(self.own)
        return weights + self.meaning @ learnt[words:] if self.meaning.size else weights


class Space:
    """All examples as numbers, without their labels."""

    def __init__(
        self, mails: Sequence[Example], copies: Sequence[Example], vectors: WordVectors, points: float
    ) -> None:
        """How rare a term is, and whether it counts at all, is told from `mails` alone."""
        examples = [*mails, *copies]
        self.blocks = [self._block(name, mails, examples, vectors) for name in BLOCKS]
        self.points = sorted({name for one in examples for name in one.examined.features.points})
        given = [[one.examined.features.points.get(name, 0.0) for name in self.points] for one in examples]
        self.scale = math.sqrt(points)
        parts = [block.columns for block in self.blocks]
        self.columns = hstack([*parts, csr_matrix(np.array(given) * self.scale)]).tocsr()
        # Far fewer mails than words: the same regression on the mails' likeness to each other is much faster.
        likeness = (self.columns @ self.columns.T).toarray()
        with threadpool_limits(1):
            values, axes = np.linalg.eigh(likeness)
        kept = values > 1e-9 * values.max()
        self._axes = axes[:, kept] / np.sqrt(values[kept])
        self.places: Numbers = axes[:, kept] * np.sqrt(values[kept])

    @staticmethod
    def _block(
        name: str, mails: Sequence[Example], examples: Sequence[Example], vectors: WordVectors
    ) -> Block:
        own, meaning = BLOCKS[name]
        seen: dict[str, int] = {}
        for one in mails:
            for term in one.examined.features.terms[name]:
                seen[term] = seen.get(term, 0) + 1
        least = 2 if " " in "".join(seen) or name in {"pairs", "around"} else 1
        terms = {term for term, times in seen.items() if times >= least}
        if meaning:
            terms.update(vectors.words)
        ordered = sorted(terms)
        column = {term: place for place, term in enumerate(ordered)}
        rarity = np.array([math.log((1 + len(mails)) / (1 + seen.get(term, 0))) for term in ordered])
        rarity = np.round(np.minimum(rarity, math.log(1 + len(mails)) - 0.5), 3)
        rows, columns, values = [], [], []
        for row, one in enumerate(examples):
            known = [
                (column[term], value * rarity[column[term]])
                for term, value in one.examined.features.terms[name].items()
                if term in column
            ]
            length = math.sqrt(sum(value * value for _, value in known)) or 1.0
            for place, value in known:
                rows.append(row)
                columns.append(place)
                values.append(value / length)
        matrix = csr_matrix((values, (rows, columns)), shape=(len(examples), len(ordered)))
        directions = np.zeros((len(ordered), 0))
        if meaning:
            directions = np.zeros((len(ordered), vectors.vectors.shape[1]))
            for word, vector in zip(vectors.words, vectors.vectors, strict=True):
                directions[column[word]] = vector
            spread = np.sqrt(((matrix @ directions) ** 2).sum(axis=1).mean())
            directions *= math.sqrt(meaning) / spread
        return Block(name, ordered, rarity, matrix, own, directions)

    def outward(self, inner: Numbers) -> Numbers:
        """Weights on `columns` from weights on `places`."""
        return np.asarray(self.columns.T @ (self._axes @ inner))


@dataclass(frozen=True, slots=True)
class Head:
    labels: tuple[str, ...]
    weights: Numbers
    bias: Numbers

    def totals(self, places: Numbers) -> Numbers:
        return np.asarray(places @ self.weights + self.bias)


class Trainer:
    """Fits every head on some of the examples and judges others with them. A copy of an example in which
    something is turned down is learnt from with it, and never judged."""

    def __init__(
        self, examples: Sequence[Example], rules: Rules, vectors: WordVectors, points: float = POINTS
    ) -> None:
        self.examples = examples
        copies: list[Example] = []
        self._copy_of: dict[int, int] = {}
        for row, one in enumerate(examples):
            mail = declining(one.examined.mail, one.labels, f"{SEED} {one.id}")
            if mail is not None:
                self._copy_of[row] = len(examples) + len(copies)
                copies.append(Example(one.id, examine(mail, rules), one.labels))
        self.space = Space(examples, copies, vectors, points)

    def fit(self, rows: Indices) -> dict[str, Head]:
        labels = [one.labels for one in self.examples]
        advice = [row for row in rows if labels[row]["stream"] == "advice"]
        with_areas = [row for row in rows if labels[row]["stream"] == "advice" or labels[row]["areas"]]
        areas = [
            self._head(("no", area), with_areas, ["no" if area not in labels[row]["areas"] else area
                       for row in with_areas], "areas")
            for area in AREAS
        ]  # fmt: skip
        return {
            "destination": self._destination(rows),
            "areas": Head(
                AREAS,
                np.hstack([one.weights[:, 1:] - one.weights[:, :1] for one in areas]),
                np.array([one.bias[1] - one.bias[0] for one in areas]),
            ),
            "mentoring": self._head(
                HEADS["mentoring"],
                advice,
                [labels[row]["mentoring"] or "none" for row in advice],
                "mentoring",
            ),
            "eligibility": self._head(
                HEADS["eligibility"], rows, [labels[row]["eligibility"] for row in rows], "eligibility"
            ),
            "urgency": self._head(
                HEADS["urgency"], rows, [labels[row]["urgency"] for row in rows], "urgency"
            ),
        }

    def _destination(self, rows: Indices) -> Head:
        """Large margins tell destinations apart a little better than a regression does."""
        copied = [row for row in rows if row in self._copy_of]
        places = [*rows, *(self._copy_of[row] for row in copied)]
        answers = [self.examples[row].destination for row in (*rows, *copied)]
        counts = [1.0] * len(rows) + [COPIES_COUNT] * len(copied)
        with threadpool_limits(1):
            machine = LinearSVC(C=STRENGTH["destination"], random_state=SEED)
            learnt = machine.fit(self.space.places[places], answers, sample_weight=counts)
        labels = HEADS["destination"]
        weights = np.zeros((self.space.places.shape[1], len(labels)))
        bias = np.full(len(labels), -8.0)
        for place, label in enumerate(learnt.classes_):
            at = labels.index(str(label))
            weights[:, at] = learnt.coef_[place] * SHARPNESS
            bias[at] = learnt.intercept_[place] * SHARPNESS
        return Head(labels, weights, bias)

    def _head(
        self, labels: tuple[str, ...], rows: Sequence[int] | Indices, answers: list[str], name: str
    ) -> Head:
        inner = self.space.places[np.asarray(rows)]
        weights = np.zeros((inner.shape[1], len(labels)))
        bias = np.full(len(labels), -8.0)  # a label nobody gave
        if len(set(answers)) == 1:
            bias[labels.index(answers[0])] = 0.0
            return Head(labels, weights, bias)
        with threadpool_limits(1):  # matrices this small only lose by threads, and sums keep their order
            learnt = LogisticRegression(C=STRENGTH[name], max_iter=2000, tol=1e-5).fit(inner, answers)
        coefficients, intercept = learnt.coef_, learnt.intercept_
        if len(learnt.classes_) == 2:
            coefficients, intercept = np.vstack([-coefficients, coefficients]) / 2, np.array(
                [-intercept[0], intercept[0]]
            ) / 2  # fmt: skip
        for place, label in enumerate(learnt.classes_):
            at = labels.index(str(label))
            weights[:, at], bias[at] = coefficients[place], intercept[place]
        return Head(labels, weights, bias)

    def judge(self, heads: dict[str, Head], row: int) -> Verdict:
        """What the heads say of one example, as the published model would."""
        chances: dict[str, dict[str, float]] = {}
        for name, head in heads.items():
            totals = head.totals(self.space.places[row])
            if name == "areas":
                shares = [sigmoid(float(total)) for total in totals]
            else:
                powers = np.exp(totals - totals.max())
                shares = [float(share) for share in powers / powers.sum()]
            chances[name] = dict(zip(head.labels, shares, strict=True))
        return Verdict(chances, ())

    def unseen(self) -> dict[int, Verdict]:
        """A verdict for every example by heads that were trained on others."""
        answers = [one.destination for one in self.examples]
        folds = min(FOLDS, *(answers.count(answer) for answer in set(answers)))
        split = StratifiedKFold(max(folds, 2), shuffle=True, random_state=SEED)
        rows = np.arange(len(answers))
        verdicts: dict[int, Verdict] = {}
        for learn, ask in split.split(rows, answers):
            heads = self.fit(rows[learn])
            verdicts.update((int(row), self.judge(heads, row)) for row in rows[ask])
        return verdicts

    def across(self, learn: Indices, ask: Indices) -> float:
        """The share of `ask` whose destination is right, by the words and points of `learn` alone."""
        heads = self.fit(learn)
        right = [
            self.judge(heads, int(row)).best("destination") == self.examples[row].destination for row in ask
        ]
        return share(right)


def share(right: Sequence[bool]) -> float:
    return round(sum(right) / max(len(right), 1), 4)
