"""Trains the model anew (`python -m services.triage.training`), and refuses to publish a worse one.

Every figure is for mails the model had not been trained on (cross-validation). Only this command needs
scikit-learn; the services read the published file in plain Python.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from services.triage.classify.model import (
    FORMAT,
    SCALE,
    Calibration,
    Evidence,
    Model,
    ModelError,
    Verdict,
    load_model,
)
from services.triage.classify.reading import evidence_of, label_of, weigh
from services.triage.evaluate import Judged, predicted, report
from services.triage.learning import HEADS, Example, Trainer, WordVectors, examples_in, share
from services.triage.programme import MODEL_FILE, Rules, load_programme

Numbers = NDArray[np.float64]
Indices = NDArray[np.int64]

PROGRAMME = Path("deploy/programme/programme.yaml")
EXAMPLES = Path("deploy/programme/training")
DEMO = Path("deploy/demo/enquiries-dev.jsonl")
WORDS = "words.json"
PRECISION = 0.97  # of what is routed without a person
WORSE = 0.005  # a fall that is still taken for noise


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
        "destination": share([one.at_home for one in found]),
        "routed": share([one.decided for one in found]),
        "routed_right": share([one.at_home for one in decided]),
    }


def publishable(
    trainer: Trainer, curve: Calibration, measured: dict[str, float], evaluated: str, rules_version: str
) -> Model:
    """The model trained on all examples, as it is written. Its id is a digest of all that decides."""
    space = trainer.space
    heads = trainer.fit(np.arange(len(trainer.examples)))
    outward = space.outward(np.hstack([heads[name].weights for name in HEADS]))

    def whole(rows: Numbers) -> Any:
        return np.rint(rows * SCALE).astype(int).tolist()

    terms: dict[str, dict[str, tuple[int, ...]]] = {}
    at = 0
    for block in space.blocks:
        width = block.columns.shape[1]
        weights = block.weights(outward[at : at + width])
        at += width
        terms[block.name] = {
            term: (rare, *row)
            for term, rare, row in zip(block.terms, whole(block.rarity), whole(weights), strict=True)
        }
    contents: dict[str, Any] = {
        "format": FORMAT,
        "rules_version": rules_version,
        "evaluated": evaluated,
        "measured": measured,
        "heads": HEADS,
        "bias": whole(np.concatenate([heads[name].bias for name in HEADS])),
        "terms": terms,
        "points": dict(zip(space.points, whole(outward[at:] * space.scale), strict=True)),
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
    trainer = Trainer(examples, programme.rules, vectors)
    verdicts = trainer.unseen()
    # Whole mails alone: `teaching` is short requests and corrections, which are not what comes in.
    curve = calibrated(examples, {row: found for row, found in verdicts.items() if row < ends[len(fixed)]})
    whole = judged(examples, verdicts, curve, programme.rules)
    found, shown = whole[:count], whole[count : int(ends[len(fixed)])]
    measured = figures(found)
    measured["rules_alone"] = share(
        [label_of(one.examined.reading.guess) == one.destination for one in examples[:count]]
    )
    for number, file in enumerate(fixed):
        others = np.concatenate([rows[other] for other in range(len(sets)) if other != number])
        measured[f"others_to_{file.stem}"] = trainer.across(others, rows[number])
    words_alone = Trainer(examples, programme.rules, vectors, points=1e-6)
    others = np.concatenate([rows[other] for other in range(len(sets)) if other != len(fixed)])
    measured[f"words_alone_to_{also.stem}"] = words_alone.across(others, rows[len(fixed)])
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
