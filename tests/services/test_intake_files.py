"""Mail that is piped in, and mail kept in files: accepted by the running intake or kept by whoever has it."""

import asyncio
import json
import mailbox
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.intake.archives import messages_in
from services.intake.importing import bring, reported
from services.intake.sending import Gateway, NotNow
from tests.conftest import eventually
from tests.services.conftest import Intake

TEXT = "From: jane@council.example\nSubject: Advice\nMessage-ID: <%s@council.example>\n\nDear all\n"


def mail(name: str) -> bytes:
    return (TEXT % name).encode()


def kept(intake: Intake, name: str) -> list[dict[str, Any]]:
    return intake.messages({"state.message_id": f"<{name}@council.example>"})


async def test_a_piped_message_is_durable_when_the_pipe_ends_with_0(intake: Intake) -> None:
    done = await intake.run(
        "pipe", stdin=b"From jane@council.example Mon Sep 24 09:00:00 2018\n" + mail("p1")
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    (document,) = kept(intake, "p1")
    assert (document["state"]["via"], document["state"]["raw"]) == ("pipe", mail("p1"))
    (entry,) = document["inbox"]
    assert entry["said"][0]["type"] == "enquiry.received.v1"


async def test_a_pipe_asks_to_be_tried_again_unless_the_message_is_at_fault(
    intake: Intake, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.key"
    wrong.write_text("wrong")
    away, unknown, keyless, too_large, empty = await asyncio.gather(
        intake.run("pipe", stdin=mail("p2"), MUTUALS_INTAKE_URL="http://127.0.0.1:1"),
        intake.run("pipe", stdin=mail("p2"), MUTUALS_INTAKE_KEY_FILE=str(wrong)),
        intake.run("pipe", stdin=mail("p2"), MUTUALS_INTAKE_KEY_FILE=str(tmp_path / "none")),
        intake.run("pipe", stdin=mail("p2") + b"x" * 26 * 1024 * 1024),
        intake.run("pipe", stdin=b""),
    )
    assert [done.returncode for done in (away, unknown, keyless, too_large, empty)] == [75, 75, 75, 65, 65]
    assert b"ConnectionRefusedError" in away.stderr
    assert b"401" in unknown.stderr
    assert b"413" in too_large.stderr
    assert not kept(intake, "p2")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An mbox, a Maildir and single messages, of which one is there twice and one cannot be accepted."""
    (tmp_path / "a").mkdir()
    box = mailbox.mbox(tmp_path / "a" / "old.mbox")
    for number in range(10):
        box.add(mail(f"box{number}"))
    box.close()
    folder = mailbox.Maildir(tmp_path / "a" / "Maildir")
    for number in range(10):
        folder.add(mail(f"dir{number}"))
    (tmp_path / "a" / "Maildir" / "tmp" / "half").write_bytes(mail("half"))
    (tmp_path / "a" / "one.eml").write_bytes(mail("one"))
    (tmp_path / "a" / "two.eml").write_bytes(b"From someone Mon Sep 24 09:00:00 2018\n" + mail("one"))
    (tmp_path / "a" / "zero.eml").write_bytes(b"")
    (tmp_path / "a" / "nowhere.eml").symlink_to(tmp_path / "gone")
    return tmp_path / "a"


async def test_an_import_tells_what_became_of_each_message_and_goes_on_from_its_report(
    intake: Intake, archive: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.jsonl"
    first = await intake.run("cli", "import", str(archive), "--report", str(report))
    assert first.returncode == 1, "two were refused"
    lines = {line["path"]: line for line in map(json.loads, report.read_text().splitlines())}
    assert len(lines) == 24
    endings = {Path(path).name: line["outcome"] for path, line in lines.items()}
    assert endings["zero.eml"] == endings["nowhere.eml"] == "refused"
    assert sorted((endings["one.eml"], endings["two.eml"])) == ["duplicate", "enquiry"]
    assert {endings[f"old.mbox#{number}"] for number in range(10)} == {"enquiry"}
    assert not kept(intake, "half")
    (line,) = (line for path, line in lines.items() if path.endswith("#3"))
    (document,) = kept(intake, "box3")
    assert line["reference"] == document["state"]["reference"]
    assert line["whole_text"] == document["state"]["text"]
    assert line.keys() >= {"reason", "is_bounce", "failed_recipients", "is_automated", "suppress_reply"}
    assert line.keys() >= {"new_text", "attachments", "milliseconds"}
    with report.open("a") as file:
        file.write('{"path": "cut sh')
    (archive / "more.eml").write_bytes(mail("more"))
    again = await intake.run("cli", "import", str(archive), "--report", str(report))
    assert again.returncode == 0, again.stderr
    assert len(report.read_text().splitlines()) == 25
    assert len(reported(report)) == 25


async def test_an_import_waits_for_an_intake_that_is_killed_and_loses_nothing(
    intake: Intake, tmp_path: Path
) -> None:
    for number in range(150):
        (tmp_path / f"{number}.eml").write_bytes(mail(f"killed{number}"))
    seen: list[dict[str, Any]] = []
    gateway = partial(Gateway, intake.process.url, intake.key_file)
    messages = list(messages_in(tmp_path))
    with (tmp_path / "report").open("w") as report:
        importing = asyncio.create_task(asyncio.to_thread(bring, gateway, messages, report, told=seen.append))
        await eventually(lambda: len(seen) > 20)
        await asyncio.to_thread(intake.process.kill)
        await asyncio.to_thread(intake.process.start)
        endings = await importing
    assert sum(endings.values()) == 150
    assert set(endings) <= {"enquiry", "duplicate"}, "some were accepted and not answered"
    assert len(intake.messages({"state.message_id": {"$regex": "^<killed"}})) == 150


def test_an_import_gives_up_an_intake_that_stays_away_with_its_report_right(
    intake: Intake, tmp_path: Path
) -> None:
    (tmp_path / "a.eml").write_bytes(mail("away"))
    gateway = partial(Gateway, "http://127.0.0.1:1", intake.key_file)
    with pytest.raises(NotNow), (tmp_path / "report").open("w") as report:
        bring(gateway, messages_in(tmp_path / "a.eml"), report, told=print, patience=0.1)
    assert not reported(tmp_path / "report")
