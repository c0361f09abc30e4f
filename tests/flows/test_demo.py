"""`make demo` itself, as a process, on servers of its own: the table is true, and nothing is left running."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import psutil
import pymongo
import pytest

from deploy.demo.kept import Folder
from deploy.demo.messages import ENQUIRIES, OPENING, letters
from deploy.local.pipeline import ADDRESS, ROOT
from deploy.local.servers import start
from deploy.topology import service_names

SENT = len(ENQUIRIES.read_text().splitlines())
LONGEST = 180.0


@dataclass
class Demo:
    """One folder, and the demos run in it one after the other."""

    state: Path

    @property
    def report(self) -> Path:
        return self.state.with_suffix(".json")

    def start(self, **environment: str) -> "subprocess.Popen[str]":
        inherited = {k: v for k, v in os.environ.items() if k not in {"FRESH", "DEMO_ONCE"}}
        return subprocess.Popen(
            [sys.executable, "-m", "deploy.local.demo"],
            cwd=ROOT,
            env={**inherited, "DEMO_STATE": str(self.state), "DEMO_JSON": str(self.report), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # a process group of its own, as a terminal gives one
        )

    def once(self, **environment: str) -> tuple[str, dict[str, Any]]:
        """What a whole run said, and its report."""
        self.report.unlink(missing_ok=True)
        demo = self.start(DEMO_ONCE="1", **environment)
        said, _ = demo.communicate(timeout=LONGEST)
        assert demo.returncode == 0, said
        assert self.running() == []
        return said, json.loads(self.report.read_text())

    def running(self) -> list[str]:
        """Processes that work on this folder, by their command line or environment."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                words = (*process.cmdline(), *process.environ().values())
                if process.pid != os.getpid() and any(str(self.state) in word for word in words):
                    found.append(" ".join(process.cmdline())[:200])
        return found

    def stored(self) -> dict[str, list[dict[str, Any]]]:
        """Every state in every collection, as `service.collection`, read when no demo runs."""
        with closing(Folder(self.state)) as folder:
            kept = folder.read()
            assert kept is not None
            with start(folder.servers, keep=True) as servers:
                tenant = servers.tenant(kept.tenant, service_names())
                with pymongo.MongoClient[dict[str, Any]](tenant.admin_mongodb_url) as client:
                    databases = {name: client[tenant.database(name)] for name in tenant.services}
                    return {
                        f"{service}.{collection}": list(database[collection].find())
                        for service, database in databases.items()
                        for collection in database.list_collection_names()
                    }


def until(process: "subprocess.Popen[str]", words: str) -> str:
    """Read what it says up to a line with these words."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if words in line:
            return said
    raise AssertionError(f"it ended without saying {words!r}:\n{said}")


def interrupt(process: "subprocess.Popen[str]", number: signal.Signals = signal.SIGINT) -> str:
    """As a terminal does on Ctrl-C: to everybody in the foreground."""
    os.killpg(process.pid, number)
    said, _ = process.communicate(timeout=90)
    return said


def tally(values: Iterator[Any]) -> dict[str, int]:
    return dict(Counter(values))


@dataclass
class History:
    """Four demos in one folder, one after the other: starting each takes too long to do it for every test."""

    taken: list[int]
    cut_short: str
    left_after_cut: list[str]
    resumed: str
    resumed_report: dict[str, Any]
    story: str
    mails_read: str
    refused: str
    resumed_stop: str
    left_after_stop: list[str]
    again: str
    again_report: dict[str, Any]
    stored: dict[str, list[dict[str, Any]]]
    mails: list[bytes]
    fresh: str
    left_after_kill: list[str]


USUAL_PORTS = (2424, 2525, 2526, 8000, 8003)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    demo = Demo(tmp_path_factory.mktemp("demo") / "state")
    with ending_all(demo):
        yield History(**cut_short(demo), **resumed(demo), **again(demo), **fresh_and_killed(demo))


def cut_short(demo: Demo) -> dict[str, Any]:
    """Ctrl-C as soon as the first mail has gone out, with nearly all the usual ports taken."""
    with ExitStack() as others:
        taken = []
        for port in USUAL_PORTS:
            other = others.enter_context(socket.socket())
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):  # somebody else has it, and may give it back
                other.bind(("127.0.0.1", port))
                other.listen()
                taken.append(port)
        running = demo.start(DEMO_ONCE="1")
        said = until(running, f"Sending {SENT} messages")
        deadline = time.monotonic() + 60
        while not any((demo.state / "mail" / "new").iterdir()) and time.monotonic() < deadline:
            time.sleep(0.01)
        said += interrupt(running)
    assert running.returncode == 130, said
    return {"taken": taken, "cut_short": said, "left_after_cut": demo.running()}


def resumed(demo: Demo) -> dict[str, Any]:
    """A run that goes on until Ctrl-C, and does what it says one can do."""
    running = demo.start()
    said = until(running, "Logs ")
    assert stat.S_IMODE((demo.state / "operator.json").stat().st_mode) == 0o600
    found = {
        "resumed": said,
        "resumed_report": json.loads(demo.report.read_text()),
        "story": follow(r"-m (shared\.cli case MSP-\S+ --operator-file \S+)", said),
        "mails_read": follow(r"-m (deploy\.demo\.mails MSP-\S+ --maildir \S+)", said),
    }
    beside = demo.start(DEMO_ONCE="1")
    found["refused"], _ = beside.communicate(timeout=60)
    assert beside.returncode == 1
    found["resumed_stop"] = interrupt(running)
    assert running.returncode == 0, found["resumed_stop"]
    operator_file = [file.name for file in demo.state.glob("operator.json")]
    return found | {"left_after_stop": operator_file + demo.running()}


def follow(direction: str, said: str) -> str:
    """Run a command that the demo printed."""
    command = re.search(direction, said)
    assert command is not None, said
    return subprocess.run(
        [sys.executable, "-m", *command[1].split()], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


def again(demo: Demo) -> dict[str, Any]:
    said, report = demo.once()
    mails = [file.read_bytes() for file in (demo.state / "mail" / "new").iterdir()]
    return {"again": said, "again_report": report, "stored": demo.stored(), "mails": mails}


def fresh_and_killed(demo: Demo) -> dict[str, Any]:
    """SIGKILL: the demo itself can do nothing any more."""
    running = demo.start(FRESH="1")
    said = until(running, " messages to ")
    running.kill()
    running.communicate(timeout=30)
    deadline = time.monotonic() + 60
    while (left := demo.running()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return {"fresh": said, "left_after_kill": left}


@contextmanager
def ending_all(demo: Demo) -> Iterator[None]:
    """A test that failed leaves no demo behind; the rest ends with it."""
    try:
        yield
    finally:
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.ppid() and str(demo.state) == process.environ().get("DEMO_STATE", ""):
                    process.kill()


def states(history: History, name: str) -> list[dict[str, Any]]:
    return [document["state"] for document in history.stored[name]]


def test_table_says_what_the_services_stored(history: History) -> None:
    report = history.again_report
    cases = states(history, "triage.cases")
    routed = [case for case in cases if case["status"] == "routed"]
    assert report["accepted"] == len(history.stored["intake.messages"]) == SENT
    assert report["cases"] == len(cases) == SENT
    assert report["routed"]["stream"] == tally(case["stream"] for case in routed)
    assert report["routed"]["partner"] == tally(case["partner"]["name"] for case in routed)
    assert report["held"] == tally(c["decision"]["reason"] for c in cases if c["status"] == "held")
    booked = [s for s in states(history, "mentoring.sessions") if s["status"] == "booked"]
    assert report["sessions"] == len(booked) > 0
    assert report["seconds"] > 0


def test_numbers_of_the_table_add_up(history: History) -> None:
    report = history.again_report
    routed = {name: sum(counts.values()) for name, counts in report["routed"].items()}
    assert set(routed) == {"stream", "area", "partner"}
    assert len(set(routed.values())) == 1
    assert routed["area"] + sum(report["held"].values()) == report["cases"] == report["accepted"]


def test_every_mail_asked_for_is_in_the_mailbox_once(history: History) -> None:
    notified = states(history, "notifications.notifications")
    assert {notification["status"] for notification in notified} == {"sent"}
    kept = [BytesHeaderParser().parsebytes(mail)["Message-ID"] for mail in history.mails]
    assert sorted(kept) == sorted(notification["message_id"] for notification in notified)
    assert history.again_report["mails"] == len(kept)


def test_nothing_is_left_in_queues_and_outboxes(history: History) -> None:
    assert history.again_report["left_in_queues"] == 0
    for name, documents in history.stored.items():
        assert not any(document.get("outbox") for document in documents), name


def test_half_of_the_messages_come_over_each_protocol(history: History) -> None:
    ways = tally(message["via"] for message in states(history, "intake.messages"))
    assert ways == {"smtp": SENT / 2, "lmtp": SENT / 2}


def test_taken_port_is_no_error_and_the_other_is_told(history: History) -> None:
    assert history.taken
    for port in history.taken:
        assert f"port {port} is taken" in history.cut_short


def test_ctrl_c_while_sending_stops_in_order(history: History) -> None:
    assert "Traceback" not in history.cut_short
    assert "Stopped." in history.cut_short
    assert history.left_after_cut == []


def test_run_after_one_that_was_cut_short_sends_only_the_rest(history: History) -> None:
    assert "Going on from the last run" in history.resumed
    sent = re.search(
        rf"(\d+) of the {SENT} messages were accepted before; sending the other (\d+)", history.resumed
    )
    assert sent is not None, history.resumed
    assert int(sent[1]) + int(sent[2]) == SENT


def test_run_after_a_whole_one_sends_nothing_and_says_the_same(history: History) -> None:
    assert "none is sent again" in history.again
    assert history.again_report == history.resumed_report


def test_what_to_look_at_next_can_be_looked_at(history: History) -> None:
    assert "session.booked.v1" in history.story
    assert "text/calendar" in history.mails_read


def test_second_demo_in_the_same_folder_is_refused(history: History) -> None:
    assert "running already" in history.refused


def test_ctrl_c_after_the_table_leaves_only_data(history: History) -> None:
    assert "Traceback" not in history.resumed_stop
    assert "Stopped." in history.resumed_stop
    assert history.left_after_stop == []


def test_fresh_starts_anew(history: History) -> None:
    assert "Starting anew" in history.fresh
    assert f"Sending {SENT} messages" in history.fresh


def test_killed_outright_it_leaves_nothing_running(history: History) -> None:
    assert history.left_after_kill == []


@pytest.mark.parametrize(
    ("number", "seconds"), [(signal.SIGINT, 0.4), (signal.SIGTERM, 1.5), (signal.SIGHUP, 4.0)]
)
def test_stopped_at_any_moment_of_its_start_it_leaves_nothing_running(
    tmp_path: Path, number: signal.Signals, seconds: float
) -> None:
    demo = Demo(tmp_path / "demo")
    with ending_all(demo):
        running = demo.start()
        time.sleep(seconds)  # not a wait for anything: the moment is what is tested
        said = interrupt(running, number)
        assert running.returncode == 0, said
        assert "Traceback" not in said
        assert demo.running() == []


def test_messages_are_the_same_in_the_same_run_and_others_in_another() -> None:
    first = letters("run", ADDRESS)
    assert first == letters("run", ADDRESS)
    assert len({letter.message_id for letter in first}) == SENT
    assert {letter.message_id for letter in first}.isdisjoint(
        letter.message_id for letter in letters("another", ADDRESS)
    )
    for letter in first:
        headers = BytesHeaderParser().parsebytes(letter.content)
        assert headers["Message-ID"] == letter.message_id
        assert not headers.get("Auto-Submitted"), "the labels must not be given away"


def test_every_message_was_written_before_the_programmes_clock_starts() -> None:
    for letter in letters("run", ADDRESS):
        written = parsedate_to_datetime(BytesHeaderParser().parsebytes(letter.content)["Date"])
        assert (written.year, written.month) == (2018, 9)
        assert written < OPENING
