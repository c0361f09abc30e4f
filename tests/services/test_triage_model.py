"""The trained half of triage: what the published model may and may not decide, and how one is published."""

import hashlib
import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from services.triage import training
from services.triage.classify.model import Model, ModelError, Verdict, load_model
from services.triage.classify.page import Mail
from services.triage.classify.reading import examine, read, weigh
from services.triage.declining import declining
from services.triage.domain import Held, route
from services.triage.learning import HEADS, Trainer, WordVectors, examples_in
from services.triage.programme import MODEL_FILE, ProgrammeError, load_programme
from services.triage.training import publishable
from tests.unit.triage_examples import IN_WINDOW, LEASE, PROGRAMME_FILE, received, the_programme

PUBLISHED = PROGRAMME_FILE.with_name(MODEL_FILE)
FOLDER = PROGRAMME_FILE.parent / "training"
FLOOR = 0.6  # of mails by a hand none of those trained on is by; measured: 0.73, 0.66 and 0.63


def the_model() -> Model:
    model = the_programme().model
    assert model is not None
    return model


def certain_of(label: str) -> Verdict:
    heads = {
        head: {name: 0.001 if name != label else 0.99 for name in names} for head, names in HEADS.items()
    }
    return Verdict(heads, ())


def copy_of_the_programme(folder: Path) -> Path:
    return Path(shutil.copy(PROGRAMME_FILE, folder / "programme.yaml"))


@cache
def a_trainer() -> Trainer:
    rules = the_programme().rules
    examples = examples_in([FOLDER / f"enquiries-{hand}.jsonl" for hand in "abc"], rules)
    return Trainer(examples, rules, WordVectors(FOLDER / "words.json"))


def test_a_decision_keeps_the_model_beside_the_rule_set_and_the_words_that_moved_it():
    decision = route(None, received(), the_programme(), IN_WINDOW).state.decision
    assert (decision.rules_version, decision.model) == (the_programme().rules.version, the_model().id)
    spoken = [fact for fact in decision.facts if fact.rule == "model"]
    assert spoken
    assert all(LEASE[fact.start : fact.end] == fact.words for fact in spoken)


def test_without_a_model_the_rules_alone_decide():
    programme = the_programme().model_copy(update={"model": None})
    outcome = route(None, received(), programme, IN_WINDOW)
    assert outcome.state.decision.model is None
    assert outcome.state.areas[0] == "legal"


@pytest.mark.parametrize(
    "text",
    [
        "A child is being abused at our unit and nobody acts. We also need a solicitor to read our lease.",
        "Under the Freedom of Information Act please send every lease that a solicitor has read for you.",
        "I'm a journalist, writing a story about leases. We go to press at five.",
        "I wish to complain about your adviser, who never read our lease.",
        "We fear a conflict of interest with a partner over our lease.",
        "There was fraud: timesheets were backdated, and the lease too.",
    ],
)
def test_what_must_be_seen_by_a_person_is_held_however_certain_the_model_is(text: str):
    rules = the_programme().rules
    examined = examine(Mail("Our lease", text), rules)
    reading = weigh(examined, certain_of("legal"), the_model().calibration, "any", rules)
    assert reading.guess.disposition == "review"
    assert isinstance(route(None, received(text), the_programme(), IN_WINDOW), Held)


def test_a_body_that_may_be_ineligible_is_never_routed_without_a_person():
    rules = the_programme().rules
    verdict = certain_of("legal")
    verdict.heads["eligibility"]["ineligible"] = 0.99
    reading = weigh(examine(Mail("", LEASE), rules), verdict, the_model().calibration, "any", rules)
    assert (reading.guess.areas[:1], reading.sure) == (("legal",), False)


def test_confidence_grows_with_agreement_and_shrinks_with_reasons_to_hold():
    rules, model = the_programme().rules, the_model()
    clear = read(Mail("Our lease", LEASE), rules, model)
    muddled = read(Mail("", "We wonder about pricing, or perhaps the lease, or the rota."), rules, model)
    assert clear.confidence > muddled.confidence
    assert (clear.sure, muddled.sure) == (True, False)


def test_the_published_file_says_what_training_meant():
    trainer = a_trainer()
    rows = np.arange(0, len(trainer.examples))
    heads = trainer.fit(rows)
    model = publishable(trainer, the_model().calibration, {}, "", "")
    for row in range(0, len(trainer.examples), 17):
        meant = trainer.judge(heads, row).heads["destination"]
        says = model.judge(trainer.examples[row].examined.features).heads["destination"]
        assert says == pytest.approx(meant, abs=0.05)


def test_the_same_mails_train_the_same_model():
    trainer = a_trainer()
    once, again = (publishable(trainer, the_model().calibration, {}, "", "") for _ in range(2))
    assert once.id == again.id
    assert once == again


def test_mails_of_another_hand_reach_the_right_destination_often_enough():
    trainer = a_trainer()
    hands = np.array([one.id.rsplit("-", 1)[0] for one in trainer.examples])
    rows = np.arange(len(hands))
    for hand in ("train-a", "train-b", "train-c"):
        assert trainer.across(rows[hands != hand], rows[hands == hand]) >= FLOOR, hand


def test_a_copy_that_turns_something_down_keeps_what_was_asked_and_is_the_same_each_time():
    trainer = a_trainer()
    for one in trainer.examples[:60]:
        mail, labels = one.examined.mail, one.labels
        copy = declining(mail, labels, one.id)
        assert copy == declining(mail, labels, one.id)
        if labels["disposition"] != "route":
            assert copy is None
        elif copy is not None:
            assert len(copy.text) > len(mail.text)
            assert copy._replace(text="") == mail._replace(text="")


def test_the_published_figures_are_those_of_the_mails_kept_here():
    files = sorted(FOLDER.glob("enquiries-*.jsonl"))
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    model = the_model()
    assert model.evaluated == digest
    assert model.measured["destination"] >= 0.73
    assert model.measured["routed_right"] >= 0.93


def test_a_worse_model_is_not_published(tmp_path: Path):
    programme = copy_of_the_programme(tmp_path)
    folder = tmp_path / "training"
    folder.mkdir()
    shutil.copy(FOLDER / "words.json", folder)
    for name in "ab":
        lines = (FOLDER / f"enquiries-{name}.jsonl").read_text(encoding="utf-8").splitlines()
        (folder / f"enquiries-{name}.jsonl").write_text("\n".join(lines[:60]), encoding="utf-8")
    arguments = ["--programme", str(programme), "--folder", str(folder)]
    arguments += ["--also", str(folder / "enquiries-a.jsonl")]
    command = training.typer.Typer()
    command.command()(training.main)
    first = CliRunner().invoke(command, arguments)
    assert first.exit_code == 0, first.output
    path = tmp_path / MODEL_FILE
    better = json.loads(path.read_text(encoding="utf-8"))
    better["measured"]["destination"] = 1.0
    path.write_text(json.dumps(better), encoding="utf-8")
    second = CliRunner().invoke(command, arguments)
    assert second.exit_code == 1
    assert "not published" in second.output
    assert load_model(path).measured["destination"] == 1.0


def test_a_broken_model_stops_the_start_with_the_reason(tmp_path: Path):
    programme = copy_of_the_programme(tmp_path)
    (tmp_path / MODEL_FILE).write_text('{"format": 1}', encoding="utf-8")
    with pytest.raises(ProgrammeError, match="not a model"):
        load_programme(programme)
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(tmp_path / "missing.json")


def test_rows_of_uneven_length_are_refused():
    data = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    data["terms"]["text"]["lea"] = [1, 2, 3]
    with pytest.raises(ValueError, match="'lea'"):
        Model.model_validate(data)
