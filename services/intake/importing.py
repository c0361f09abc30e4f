"""Many kept messages, sent to a running intake a few at a time, with a report of what became of each.

The report is also what a run that was broken off goes on from: what it tells of is not sent again. And what is
sent twice all the same, intake knows again.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import IO, Any

from services.intake.archives import Kept
from services.intake.sending import Gateway, NotNow, Refused

AT_ONCE = 16
PATIENCE_SECONDS = 60.0
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0


def reported(report: Path) -> frozenset[str]:
    """The paths a report tells of already. A line that was cut short by a crash is taken off."""
    if not report.exists():
        return frozenset()
    done, whole = set(), 0
    with report.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                done.add(json.loads(line)["path"])
                whole += len(line)
    if whole < report.stat().st_size:
        with report.open("r+b") as file:
            file.truncate(whole)
    return frozenset(done)


def bring(
    connect: Callable[[], Gateway],
    messages: Iterable[Kept],
    report: IO[str] | None,
    *,
    told: Callable[[dict[str, Any]], object],
    patience: float = PATIENCE_SECONDS,
) -> Counter[str]:
    """Send every message; gives how many ended in which way. `told` is called with each line of the report, one
    at a time.

    Raises `NotNow` where intake does not accept for longer than `patience` seconds; the report is right then.
    """
    endings: Counter[str] = Counter()
    waiting = iter(messages)
    one_at_a_time = threading.Lock()
    broken_off = threading.Event()

    def work() -> None:
        gateway = connect()
        try:
            while not broken_off.is_set():
                with one_at_a_time:  # each takes the next: no more are in memory than there are workers
                    if (kept := next(waiting, None)) is None:
                        return
                    raw = _load(kept)
                line = _one(gateway, kept.path, raw, patience, broken_off)
                with one_at_a_time:
                    if report is not None:
                        report.write(json.dumps(line) + "\n")
                        report.flush()
                    endings[line["outcome"]] += 1
                    told(line)
        except BaseException:
            broken_off.set()
            raise
        finally:
            gateway.close()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        workers = [pool.submit(work) for _ in range(AT_ONCE)]
        try:
            for worker in as_completed(workers):
                worker.result()
        finally:
            broken_off.set()
    return endings


def _load(kept: Kept) -> bytes | Refused:
    try:
        return kept.load()
    except OSError as error:
        return Refused(f"cannot be read: {error.strerror}")


def _one(
    gateway: Gateway, path: str, raw: bytes | Refused, patience: float, broken_off: threading.Event
) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        if isinstance(raw, Refused):
            raise raw
        receipt = _until_accepted(gateway, raw, patience, broken_off)
    except Refused as error:
        found = NOTHING | {"outcome": "refused", "reason": str(error)}
    else:
        found = receipt["message"] | {"reference": receipt["reference"]}
    took = round((time.perf_counter() - started) * 1000, 1)
    return {"path": path, **found, "milliseconds": took}


NOTHING: dict[str, Any] = {
    "outcome": "refused",
    "reason": "",
    "is_bounce": False,
    "failed_recipients": [],
    "is_automated": False,
    "suppress_reply": False,
    "new_text": "",
    "whole_text": "",
    "attachments": [],
}


def _until_accepted(
    gateway: Gateway, raw: bytes, patience: float, broken_off: threading.Event
) -> dict[str, Any]:
    deadline = time.monotonic() + patience
    pause = FIRST_PAUSE
    while True:
        try:
            return gateway.send(raw, "import")
        except NotNow:
            if time.monotonic() + pause > deadline or broken_off.wait(pause):
                raise
        pause = min(pause * 2, LONGEST_PAUSE)
