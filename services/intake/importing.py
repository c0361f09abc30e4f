"""Many kept messages, sent to a running intake a few at a time, with a report of what became of each.

The report is also what a run that was broken off goes on from: what it tells of is not sent again. And what is
sent twice all the same, intake knows again.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import httpx

from services.intake.archives import Kept
from services.intake.sending import NotNow, Refused, send

AT_ONCE = 8
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


async def bring(
    client: httpx.AsyncClient,
    messages: Iterable[Kept],
    report: IO[str] | None,
    *,
    told: Callable[[dict[str, Any]], None],
    patience: float = PATIENCE_SECONDS,
) -> Counter[str]:
    """Send every message; gives how many ended in which way. `told` is called with each line of the report.

    Raises `NotNow` where intake does not accept for longer than `patience` seconds; the report is right then.
    """
    endings: Counter[str] = Counter()
    waiting: Iterator[Kept] = iter(messages)

    async def work() -> None:
        for kept in waiting:  # each takes the next: no more are in memory than there are workers
            line = await _one(client, kept, patience)
            if report is not None:
                report.write(json.dumps(line) + "\n")
                report.flush()
            endings[line["outcome"]] += 1
            told(line)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(work())
    except* NotNow as group_error:
        raise NotNow(str(group_error.exceptions[0])) from None
    return endings


async def _one(client: httpx.AsyncClient, kept: Kept, patience: float) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        receipt = await _until_accepted(client, kept.load(), patience)
    except (OSError, Refused) as error:
        reason = str(error) if isinstance(error, Refused) else f"cannot be read: {error.strerror}"
        found: dict[str, Any] = NOTHING | {"outcome": "refused", "reason": reason}
    else:
        found = receipt["message"] | {"reference": receipt["reference"], "enquiry": receipt["enquiry"]}
    took = round((time.perf_counter() - started) * 1000, 1)
    return {"path": kept.path, **found, "milliseconds": took}


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


async def _until_accepted(client: httpx.AsyncClient, raw: bytes, patience: float) -> dict[str, Any]:
    deadline = time.monotonic() + patience
    pause = FIRST_PAUSE
    while True:
        try:
            return await send(client, raw, "import")
        except NotNow:
            if time.monotonic() + pause > deadline:
                raise
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
