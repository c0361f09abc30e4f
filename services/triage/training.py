"""Trains the model anew (`python -m services.triage.training`), and refuses to publish a worse one.

Every figure is for mails the model had not been trained on (cross-validation). Only this command needs
scikit-learn; the services read the published file in plain Python.
"""

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from services.triage.classify.model import (
    FORMAT,
    SCALE,
    Calibration,
    Evidence,
    Model,
    ModelError,
    Verdict,
    load_model,
    sigmoid,
)
from services.triage.classify.page import Mail
from services.triage.classify.reading import Examined, evidence_of, examine, label_of, weigh
from services.triage.evaluate import Judged, predicted, report
from services.triage.programme import AREAS, MENTORING, MODEL_FILE, THEMES, Rules, load_programme

Numbers = NDArray[np.float64]
Indices = NDArray[np.int64]

PROGRAMME = Path("deploy/programme/programme.yaml")
EXAMPLES = Path("deploy/programme/training")
DEMO = Path("deploy/demo/enquiries-dev.jsonl")
WORDS = "words.json"
FOLDS = 8
SEED = 20180924
PRECISION = 0.97  # of what is routed without a person
WORSE = 0.005  # a fall that is still taken for noise

HEADS: dict[str, tuple[str, ...]] = {
    "destination": ("auto", "out-of-scope", "review", *AREAS, *THEMES, *MENTORING),
    "areas": AREAS,
    "mentoring": ("none", *MENTORING),
    "eligibility": ("eligible", "ineligible", "unclear"),
    "urgency": ("normal", "urgent"),
}
STRENGTH = {"destination": 8.0, "areas": 1.0, "mentoring": 2.0, "eligibility": 1.0, "urgency": 1.0}
# How much a block counts as words of its own, and by what its words mean (their vectors).
BLOCKS = {
    "text": (0.5, 1.0),
    "asked": (0.5, 1.0),
    "subject": (0.25, 0.3),
    "pairs": (0.2, 0.0),
    "declined": (0.1, 0.0),
    "around": (0.1, 0.0),
    "sender": (0.1, 0.0),
}
POINTS = 1.0


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
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.strip():
                record = json.loads(line)
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

    def __init__(self, examples: Sequence[Example], vectors: WordVectors, points: float = POINTS) -> None:
        self.blocks = [self._block(name, examples, vectors) for name in BLOCKS]
        self.points = sorted({name for one in examples for name in one.examined.features.points})
        given = [[one.examined.features.points.get(name, 0.0) for name in self.points] for one in examples]
        self.scale = math.sqrt(points)
        parts = [block.columns for block in self.blocks]
        self.columns = hstack([*parts, csr_matrix(np.array(given) * self.scale)]).tocsr()
        # Far fewer mails than words: the same regression on the mails' likeness to each other is much faster.
        likeness = (self.columns @ self.columns.T).toarray()
        values, axes = np.linalg.eigh(likeness)
        kept = values > 1e-9 * values.max()
        self._axes = axes[:, kept] / np.sqrt(values[kept])
        self.places: Numbers = axes[:, kept] * np.sqrt(values[kept])

    @staticmethod
    def _block(name: str, examples: Sequence[Example], vectors: WordVectors) -> Block:
        own, meaning = BLOCKS[name]
        seen: dict[str, int] = {}
        for one in examples:
            for term in one.examined.features.terms[name]:
                seen[term] = seen.get(term, 0) + 1
        least = 2 if " " in "".join(seen) or name in {"pairs", "around"} else 1
        terms = {term for term, times in seen.items() if times >= least}
        if meaning:
            terms.update(vectors.words)
        ordered = sorted(terms)
        column = {term: place for place, term in enumerate(ordered)}
        rarity = np.array([math.log((1 + len(examples)) / (1 + seen.get(term, 0))) for term in ordered])
        rarity = np.round(np.minimum(rarity, math.log(1 + len(examples)) - 0.5), 3)
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
    """Fits every head on some of the examples and judges others with them."""

    def __init__(self, examples: Sequence[Example], space: Space) -> None:
        self.examples = examples
        self.space = space

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
            "destination": self._head(
                HEADS["destination"], rows, [self.examples[row].destination for row in rows], "destination"
            ),
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

    def _head(
        self, labels: tuple[str, ...], rows: Sequence[int] | Indices, answers: list[str], name: str
    ) -> Head:
        inner = self.space.places[np.asarray(rows)]
        weights = np.zeros((inner.shape[1], len(labels)))
        bias = np.full(len(labels), -8.0)  # a label nobody gave
        if len(set(answers)) == 1:
            bias[labels.index(answers[0])] = 0.0
            return Head(labels, weights, bias)
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
        return round(sum(right) / len(right), 4)


def calibrated(examples: Sequence[Example], verdicts: dict[int, Verdict]) -> Calibration:
    """The curve of confidence, and the lowest confidence from which at least `PRECISION` were right."""
    evidence: list[Evidence] = []
    right: list[bool] = []
    for row, verdict in sorted(verdicts.items()):
        found = verdict.best("destination")
        if found in {"auto", "out-of-scope", "review"}:
            continue
        evidence.append(evidence_of(examples[row].examined, verdict))
        right.append(found == examples[row].destination)
    learnt = LogisticRegression(C=1.0).fit(np.array(evidence, dtype=np.float64), right)
    margin, agreement, rules, aside = (round(float(value), 4) for value in learnt.coef_[0])
    curve = Calibration(
        bias=round(float(learnt.intercept_[0]), 4),
        margin=margin,
        agreement=agreement,
        rules=rules,
        aside=aside,
        route=1.0,
    )
    ranked = sorted(
        ((curve.confidence(one), ok) for one, ok in zip(evidence, right, strict=True) if one.aside < 1),
        key=lambda pair: (-pair[0], pair[1]),
    )
    route, good = 1.0, 0
    for count, (confidence, ok) in enumerate(ranked, start=1):
        good += ok
        if good / count >= PRECISION and count >= 20:
            route = confidence
    return curve.model_copy(update={"route": math.floor(route * 1000) / 1000})


def judged(
    examples: Sequence[Example], verdicts: dict[int, Verdict], curve: Calibration, rules: Rules
) -> list[Judged]:
    """The whole reading, rules and model, of every mail there is a verdict for."""
    found = []
    for row, verdict in sorted(verdicts.items()):
        one = examples[row]
        reading = weigh(one.examined, verdict, curve, "unpublished", rules)
        found.append(
            Judged(
                id=one.id,
                expected=one.labels,
                predicted=predicted(reading),
                decided=reading.sure and reading.guess.disposition == "route",
                confidence=reading.confidence,
            )
        )
    return found


def figures(found: Sequence[Judged]) -> dict[str, float]:
    """What is recorded in the model file, as shares."""
    decided = [one for one in found if one.decided]
    return {
        "mails": float(len(found)),
        "destination": round(sum(one.at_home for one in found) / len(found), 4),
        "routed": round(len(decided) / len(found), 4),
        "routed_right": round(sum(one.at_home for one in decided) / max(len(decided), 1), 4),
    }


def publishable(
    trainer: Trainer, curve: Calibration, measured: dict[str, float], evaluated: str, rules_version: str
) -> Model:
    """The model trained on all examples, as it is written. Its id is a digest of all that decides."""
    space = trainer.space
    heads = trainer.fit(np.arange(len(trainer.examples)))
    outward = space.outward(np.hstack([heads[name].weights for name in HEADS]))

    def whole(row: Numbers) -> tuple[int, ...]:
        return tuple(round(float(value) * SCALE) for value in row)

    terms: dict[str, dict[str, tuple[int, ...]]] = {}
    at = 0
    for block in space.blocks:
        width = block.columns.shape[1]
        weights = block.weights(outward[at : at + width])
        at += width
        terms[block.name] = {
            term: (round(float(rare) * SCALE), *whole(row))
            for term, rare, row in zip(block.terms, block.rarity, weights, strict=True)
        }
    contents: dict[str, Any] = {
        "format": FORMAT,
        "rules_version": rules_version,
        "evaluated": evaluated,
        "measured": measured,
        "heads": HEADS,
        "bias": whole(np.concatenate([heads[name].bias for name in HEADS])),
        "terms": terms,
        "points": {
            name: whole(row * space.scale) for name, row in zip(space.points, outward[at:], strict=True)
        },
        "calibration": curve.model_dump(),
    }
    digest = hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()[:12]
    return Model.model_validate({"id": digest, **contents})


def _short(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def written(model: Model) -> str:
    """The model as its file has it: one term a line, so that a change can be read as a difference."""
    plain = model.model_dump(mode="json")
    head = {name: plain[name] for name in plain if name not in {"terms", "points"}}
    lines = [f" {json.dumps(name)}: {json.dumps(value)}," for name, value in head.items()]
    blocks = [
        f"  {json.dumps(block)}: {{\n"
        + ",\n".join(f"{_short(term)}:{_short(row)}" for term, row in rows.items())
        + "}"
        for block, rows in plain["terms"].items()
    ]
    points = ",\n".join(f"{_short(name)}:{_short(row)}" for name, row in plain["points"].items())
    return (
        "{\n"
        + "\n".join(lines)
        + '\n "terms": {\n'
        + ",\n".join(blocks)
        + '},\n "points": {\n'
        + points
        + "}\n}\n"
    )


def main(
    programme_file: Annotated[Path, typer.Option("--programme")] = PROGRAMME,
    folder: Annotated[Path, typer.Option(help="labelled mails, *.jsonl")] = EXAMPLES,
    also: Annotated[Path, typer.Option(help="more labelled mails, which the rules were written on")] = DEMO,
    dry: Annotated[bool, typer.Option("--dry", help="measure, but publish nothing")] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="publish even what is worse")] = False,
) -> None:
    """Train on all labelled mails, report the change on the fixed set, and publish what is not worse."""
    programme = load_programme(programme_file)
    # enquiries-* are the fixed evaluation set; others, such as operators' corrections, only teach.
    files = sorted(folder.glob("*.jsonl"))
    fixed = [file for file in files if file.name.startswith("enquiries-")]
    teaching = [file for file in files if file not in fixed]
    evaluated = hashlib.sha256(b"".join(file.read_bytes() for file in fixed)).hexdigest()[:12]
    vectors = WordVectors(folder / WORDS)
    sets = [examples_in([file], programme.rules) for file in (*fixed, also, *teaching)]
    examples = [one for each in sets for one in each]
    ends = np.cumsum([len(each) for each in sets])
    rows = [np.arange(end - len(each), end) for each, end in zip(sets, ends, strict=True)]
    count = int(ends[len(fixed) - 1])
    trainer = Trainer(examples, Space(examples, vectors))
    verdicts = trainer.unseen()
    curve = calibrated(examples, verdicts)
    whole = judged(examples, verdicts, curve, programme.rules)
    found, shown = whole[:count], whole[count : int(ends[len(fixed)])]
    measured = figures(found)
    measured["rules_alone"] = round(
        sum(label_of(one.examined.reading.guess) == one.destination for one in examples[:count]) / count, 4
    )
    for number, file in enumerate(fixed):
        others = np.concatenate([rows[other] for other in range(len(fixed)) if other != number])
        measured[f"others_to_{file.stem}"] = trainer.across(others, rows[number])
    words_alone = Trainer(examples, Space(examples, vectors, points=1e-6))
    measured[f"words_alone_to_{also.stem}"] = words_alone.across(np.arange(count), rows[len(fixed)])
    typer.echo(f"trained on {len(examples)} mails; on the fixed {count}, each judged by a model without it:")
    typer.echo(report(found))
    typer.echo(f"\n{json.dumps(measured, indent=1)}")
    typer.echo(f"on {also.name}, whose mails the rules were written on: {json.dumps(figures(shown))}")
    typer.echo(f"acts alone from a confidence of {curve.route}")
    path = programme_file.with_name(MODEL_FILE)
    try:
        published = load_model(path) if path.exists() else None
    except ModelError as error:
        typer.echo(error, err=True)
        published = None
    worse = False
    if published:
        typer.echo(
            f"published model {published.id}: destination {published.measured.get('destination', 0):.1%}"
        )
        if published.evaluated != evaluated:
            typer.echo("its figures are for another evaluation set, so they can't be compared; see --anyway")
            worse = True
        else:
            worse = worse_than(published.measured, measured)
    if worse and not anyway:
        typer.echo("not published: it would be worse")
        raise typer.Exit(1)
    model = publishable(trainer, curve, measured, evaluated, programme.rules.version)
    if not dry:
        path.write_text(written(model), encoding="utf-8")
        typer.echo(f"published {model.id} to {path.name}")


def worse_than(before: dict[str, float], now: dict[str, float]) -> bool:
    """Whether fewer reach the right destination, or fewer of those routed alone do."""
    return any(now[name] < before.get(name, 0.0) - WORSE for name in ("destination", "routed_right"))


if __name__ == "__main__":
    typer.run(main)
