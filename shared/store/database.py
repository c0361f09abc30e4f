"""One service's store: its aggregates, the loops that keep their promises, and large files."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import structlog
from pydantic import BaseModel

from shared.clock import Clock
from shared.contracts.cloudevents import CloudEvent
from shared.store.aggregates import Aggregates, Outcome, Publisher
from shared.store.cause import Cause, Outgoing
from shared.store.driver import (
    CorruptGridFile,
    FileExists,
    NoFile,
    Unavailable,
    asking,
    connect,
    files,
    is_outage,
    reason,
)
from shared.supervise import stop, supervise

log = structlog.get_logger()

FILE_ATTEMPTS, FILE_PAUSE = 20, 0.25
"""How often, and how many seconds apart, a file that another hand is writing is looked for before it is given up."""

S = TypeVar("S", bound=BaseModel)
O = TypeVar("O", bound=Outcome[Any])  # noqa: E741


class Store:
    """Everything one service keeps. The database is the one named in `url`, and no other."""

    def __init__(self, url: str, service: str, clock: Clock) -> None:
        self._client = connect(url, service)
        self._database = self._client.get_default_database()
        self._clock = clock
        self._aggregates: dict[str, Aggregates[Any, Any]] = {}
        self._on_due: dict[str, tuple[Callable[[Any, datetime], Awaitable[None]], timedelta]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def aggregates(
        self,
        name: str,
        state: type[S],
        announce: Callable[[O, Cause], Sequence[CloudEvent | Outgoing]],
        *,
        claims: Callable[[S], Sequence[str]] | None = None,
        due: Callable[[S], datetime | None] | None = None,
        tell: Callable[[S], str] | None = None,
        remember: int = 0,
        listed_by: str | None = None,
        joins: str | None = None,
        marks: Sequence[str] = (),
    ) -> Aggregates[S, O]:
        """The aggregates kept in collection `name`; see `Aggregates` for what each function gives."""
        made = Aggregates[S, O](
            self._database[name],
            state,
            announce,
            clock=self._clock,
            claims=claims,
            due=due,
            tell=tell,
            remember=remember,
            listed_by=listed_by,
            joins=joins,
            marks=marks,
        )
        self._aggregates[name] = made
        return made

    def each(self) -> list[Aggregates[Any, Any]]:
        return list(self._aggregates.values())

    def on_due(self, name: str, call: Callable[[Any, datetime], Awaitable[None]], lease: timedelta) -> None:
        """Name what is called, with state and end of lease, for the aggregates of collection `name` when
        their time has come.

        No other replica is called for the same aggregate before `lease` has passed.
        """
        self._on_due[name] = (call, lease)

    async def start(self, publisher: Publisher) -> None:
        """Make the indexes and start the loops. Waits for a database that is still away."""
        while True:
            try:
                for aggregates in self._aggregates.values():
                    await aggregates.ensure_indexes()
                break
            except Exception as error:
                if not is_outage(error):
                    raise
                log.warning("waiting_for_database", error=reason(error))
                await asyncio.sleep(1)
        for name, aggregates in self._aggregates.items():
            aggregates.publish_with(publisher)
            self._tasks.append(supervise(f"{name}.commits", aggregates.run_commits, pause=0.1))
            self._tasks.append(supervise(f"{name}.relay", aggregates.outbox.run_relay))
            if name in self._on_due:
                timers = partial(aggregates.run_timers, *self._on_due[name])
                self._tasks.append(supervise(f"{name}.timers", timers))

    async def flush(self, seconds: float) -> None:
        """Finish what is in hand, for at most `seconds`; what is left is safe and another process's to do."""
        try:
            async with asyncio.timeout(seconds):
                for aggregates in self._aggregates.values():
                    await aggregates.flush()
        except TimeoutError:
            log.warning("stopped_with_work_in_hand", seconds=seconds)

    async def stop(self) -> None:
        await stop(*self._tasks)
        self._tasks.clear()
        self._client.close()

    async def ping(self, seconds: float = 2.0) -> None:
        """A real round trip; raises where the database does not answer in time."""
        async with asyncio.timeout(seconds):
            await self._database.command("ping")

    async def keep_file(self, bucket: str, id: str, content: bytes) -> None:
        """Keep bytes too large for a document, durably, under an id that follows from them.

        Raises `Unavailable`.
        """
        with asking():
            await self._keep_file(bucket, id, content)

    async def _keep_file(self, bucket: str, id: str, content: bytes) -> None:
        target = files(self._database, bucket)
        for _ in range(FILE_ATTEMPTS):
            try:
                await target.upload_from_stream_with_id(id, id, content)
                return
            except FileExists:
                if await self._read_file(bucket, id) == content:
                    return
            # The same bytes may be on their way by another hand, whose chunks must not be taken from it.
            await asyncio.sleep(FILE_PAUSE)
        # Nobody finished it: a crash left parts of it, which would refuse every later attempt.
        try:
            await target.delete(id)
        except NoFile:
            log.info("unfinished_file_removed", bucket=bucket)
        try:
            await target.upload_from_stream_with_id(id, id, content)
        except FileExists as error:
            if await self._read_file(bucket, id) != content:
                raise Unavailable("the file is being written") from error

    async def read_file(self, bucket: str, id: str) -> bytes | None:
        """The bytes kept under this id, if all of them are there. Raises `Unavailable`."""
        with asking():
            return await self._read_file(bucket, id)

    async def _read_file(self, bucket: str, id: str) -> bytes | None:
        try:
            stream = await files(self._database, bucket).open_download_stream(id)
            content: bytes = await stream.read()
        except (NoFile, CorruptGridFile):
            return None
        return content


__all__ = ["Store", "Unavailable"]
