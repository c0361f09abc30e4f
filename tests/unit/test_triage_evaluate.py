"""Judging labelled mails: what is printed, what is written a record, and what is said of a file gone wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from services.triage import evaluate
from tests.unit.triage_examples import LEASE, PROGRAMME_FILE

LABELS: dict[str, Any] = {
    "disposition": "route",
    "stream": "advice",
    "areas": ["legal"],
    "pilot_theme": None,
    "mentoring": None,
    "eligibility": "eligible",
    "urgency": "normal",
}


def a_record(**changed: Any) -> dict[str, Any]:
    record = {
        "id": "1",
        "subject": "Our lease",
        "body": LEASE,
        "from_name": "Ada",
        "from_address": "a@b.example",
    }
    return {**record, "labels": LABELS, **changed}


def judged(folder: Path, *records: object) -> tuple[Result, list[dict[str, Any]]]:
    file, out = folder / "mails.jsonl", folder / "out.jsonl"
    file.write_text("\n".join(json.dumps(record) for record in records) + "\n", encoding="utf-8")
    command = typer.Typer()
    command.command()(evaluate.main)
    arguments = [str(file), "--json", str(out), "--programme", str(PROGRAMME_FILE)]
    result = CliRunner().invoke(command, arguments)
    lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
    return result, [json.loads(line) for line in lines]


def test_every_record_gets_a_line_with_its_predicted_labels_and_whether_it_would_be_routed(tmp_path: Path):
    result, lines = judged(tmp_path, a_record(), a_record(id="2", subject="", body="Please send details."))
    assert result.exit_code == 0
    assert [set(line) for line in lines] == [{"id", "decided", "confidence", *LABELS}] * 2
    assert [line["id"] for line in lines] == ["1", "2"]
    assert (lines[0]["stream"], lines[0]["areas"][:1]) == ("advice", ["legal"])
    assert (lines[1]["disposition"], lines[1]["decided"]) == ("review", False)
    for heading in (
        "destination",
        "eligibility",
        "routed by itself",
        "coverage  accuracy",
        "expected -> predicted",
    ):
        assert heading in result.output


def test_mails_without_labels_are_predicted_and_not_measured(tmp_path: Path):
    unlabelled = {name: value for name, value in a_record().items() if name != "labels"}
    result, lines = judged(tmp_path, unlabelled)
    assert result.exit_code == 0
    assert "nothing to measure" in result.output
    assert lines[0]["areas"][:1] == ["legal"]
    result, lines = judged(tmp_path, unlabelled, a_record(id="2"))
    assert "1 (and 1 without labels)" in result.output
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"id": "1", "subject": "Hello"}, "line 1: no text in body, from_name, from_address"),
        (a_record(subject=None), "line 1: no text in subject"),
        (a_record(labels={"disposition": "route"}), "line 1: labels lack stream"),
        (["not", "an", "object"], "line 1: not an object"),
    ],
)
def test_a_record_that_cannot_be_judged_is_named_with_its_fault(tmp_path: Path, record: object, said: str):
    result, lines = judged(tmp_path, record)
    assert (result.exit_code, lines) == (2, [])
    assert said in result.output


def test_a_line_that_is_not_json_is_named(tmp_path: Path):
    with pytest.raises(evaluate.RecordError, match="line 2: not JSON"):
        evaluate.records_in(json.dumps(a_record()) + "\n{\n")
