"""Measures triage on labelled mails: `python -m services.triage.evaluate FILE [--json OUT]`.

FILE holds JSON lines with `id`, `subject`, `body`, `from_name`, `from_address`, and `labels` where there are any.
OUT gets one line a record: `id`, `decided` (routed without a person), `confidence` and the predicted labels.
"""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from services.triage.classify.page import Mail
from services.triage.classify.reading import Reading, read
from services.triage.programme import Programme, ProgrammeError, load_programme

DEFAULT_PROGRAMME = Path("deploy/programme/programme.yaml")
FIELDS = ("id", "subject", "body", "from_name", "from_address")
LABELS = ("disposition", "stream", "areas", "pilot_theme", "mentoring", "eligibility", "urgency")


class RecordError(Exception):
    """A line that is not a mail to judge. The message names the line and the fault."""


class Judged(NamedTuple):
    """A mail's reading beside its labels, which are empty where it has none."""

    id: str
    expected: dict[str, Any]
    predicted: dict[str, Any]
    decided: bool
    confidence: float

    @property
    def at_home(self) -> bool:
        """Whether the destination is right: disposition and, where routed, stream plus main area or theme."""
        return destination(self.expected) == destination(self.predicted)


def destination(labels: dict[str, Any]) -> str:
    """Where these labels send an enquiry, as a readable path such as `advice/legal`."""
    if labels["disposition"] != "route":
        return str(labels["disposition"])
    first = labels["pilot_theme"] or next(iter(labels["areas"]), labels["mentoring"])
    return f"{labels['stream']}/{first}"


def predicted(reading: Reading) -> dict[str, Any]:
    """A reading as the labels of the evaluation files."""
    guess = reading.guess
    return {
        "disposition": guess.disposition,
        "stream": guess.stream,
        "areas": list(guess.areas),
        "pilot_theme": guess.pilot_theme,
        "mentoring": guess.mentoring,
        "eligibility": reading.eligibility,
        "urgency": reading.urgency,
    }


def records_in(text: str) -> list[dict[str, Any]]:
    """The mails in JSON lines. Raises RecordError for the first that can't be judged."""
    records = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise RecordError(f"line {number}: not JSON: {error}") from error
        if not isinstance(record, dict):
            raise RecordError(f"line {number}: not an object")
        if wrong := [name for name in FIELDS if not isinstance(record.get(name), str)]:
            raise RecordError(f"line {number}: no text in {', '.join(wrong)}")
        labels = record.get("labels") or {}
        if labels and (missing := [name for name in LABELS if name not in labels]):
            raise RecordError(f"line {number}: labels lack {', '.join(missing)}")
        records.append({**record, "labels": labels})
    return records


def judge(records: list[dict[str, Any]], programme: Programme) -> list[Judged]:
    """Every record read and set beside its labels."""
    judged = []
    for record in records:
        mail = Mail(record["subject"], record["body"], record["from_name"], record["from_address"])
        reading = read(mail, programme.rules, programme.model)
        judged.append(
            Judged(
                id=record["id"],
                expected=record["labels"],
                predicted=predicted(reading),
                decided=reading.sure and reading.guess.disposition == "route",
                confidence=reading.confidence,
            )
        )
    return judged


def report(judged: list[Judged]) -> str:
    """The measurements as text."""
    unlabelled = sum(not one.expected for one in judged)
    judged = [one for one in judged if one.expected]
    if not judged:
        return f"{unlabelled} records without labels, so there is nothing to measure"
    total = len(judged)
    lines = [f"records                 {total}{f' (and {unlabelled} without labels)' if unlabelled else ''}"]
    for label in LABELS:
        right = sum(one.expected[label] == one.predicted[label] for one in judged)
        lines.append(f"{label:<23} {right / total:6.1%}  ({right})")
    right = sum(one.at_home for one in judged)
    lines.append(f"{'destination':<23} {right / total:6.1%}  ({right})")
    decided = [one for one in judged if one.decided]
    good = sum(one.at_home for one in decided)
    genuine = sum(one.expected["disposition"] == "route" for one in judged)
    lines.append(
        f"{'routed by itself':<23} {len(decided) / total:6.1%} of all ({len(decided)}; {genuine} should be), "
        f"{good / max(len(decided), 1):.1%} of them right"
    )
    lines.append("")
    lines.append("coverage  accuracy  at confidence (mails it would route)")
    routing = [one for one in judged if one.predicted["disposition"] == "route"]
    routing.sort(key=lambda one: -one.confidence)
    for share in range(10, 101, 10):
        count = round(total * share / 100)
        if not count:
            continue
        if count > len(routing):
            break
        taken = routing[:count]
        accuracy = sum(one.at_home for one in taken) / count
        lines.append(f"{share:7d}%  {accuracy:8.1%}  {taken[-1].confidence:.2f}")
    lines.append("")
    lines.append("expected -> predicted, where they differ")
    confusion = Counter(
        (destination(one.expected), destination(one.predicted)) for one in judged if not one.at_home
    )
    lines.extend(f"{count:4d}  {expected} -> {got}" for (expected, got), count in confusion.most_common())
    lines.append("")
    lines.append("right of expected, by destination")
    expected_counts = Counter(destination(one.expected) for one in judged)
    right_counts = Counter(destination(one.expected) for one in judged if one.at_home)
    lines.extend(
        f"{right_counts[name]:4d} of {count:3d}  {name}" for name, count in sorted(expected_counts.items())
    )
    return "\n".join(lines)


def main(
    file: Annotated[Path, typer.Argument(help="labelled enquiries, JSON lines")],
    json_out: Annotated[Path | None, typer.Option("--json", help="write one line a record here")] = None,
    programme_file: Annotated[Path, typer.Option("--programme")] = DEFAULT_PROGRAMME,
) -> None:
    """Print accuracy per label, of the destination, and what is routed without a person."""
    try:
        programme = load_programme(programme_file)
    except ProgrammeError as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from error
    try:
        records = records_in(file.read_text(encoding="utf-8-sig"))
    except (RecordError, OSError, UnicodeDecodeError) as error:
        typer.echo(f"{file}: {error}", err=True)
        raise typer.Exit(2) from error
    started = time.process_time()
    judged = judge(records, programme)
    spent = time.process_time() - started
    typer.echo(report(judged))
    typer.echo(
        f"\n{spent / max(len(judged), 1) * 1000:.2f} ms CPU a mail, "
        f"rules {programme.rules.version}, "
        f"model {programme.model.id if programme.model else 'none'}"
    )
    if json_out:
        rows = [
            {"id": one.id, "decided": one.decided, "confidence": one.confidence, **one.predicted}
            for one in judged
        ]
        json_out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
