"""Outboxes: events leave a document for the broker, and are cleared from it once the broker has confirmed them."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from datetime import timedelta
from typing import Protocol

import structlog
from pymongo import ASCENDING, UpdateMany

from shared import metrics
from shared.clock import clock
from shared.store.cause import Outgoing
from shared.store.driver import Collection, Document, asking
from shared.store.leases import SWEEP_LIMIT, lease

log = structlog.get_logger()

RELAY_GRACE = timedelta(seconds=5)
RELAY_LEASE = timedelta(seconds=15)
SWEEP_SECONDS = 1.0
PUBLISHING_LIMIT = 2_000
"""Documents whose events wait in memory for a confirm; more are left to the relay: a broker may be away long."""

# The programme's clock may be set back for a rehearsal. What has to be published must not wait for it.
machine_clock = clock()
_KNOWN = tuple(each.name for each in fields(Outgoing))


class Publisher(Protocol):
    async def publish(self, entry: Outgoing) -> None:
        """Return once the broker has confirmed; raise otherwise."""


class Outbox:
    """The outboxes of one collection.

    `wake` is called when confirmed events wait to be cleared, which the next group of writes does on its way.
    """

    def __init__(self, collection: Collection, wake: Callable[[], None]) -> None:
        self.publisher: Publisher | None = None
        self._collection = collection
        self._wake = wake
        self._to_clear: dict[str, list[str]] = {}
        self._confirmed: set[str] = set()
        self._in_flight: dict[str, asyncio.Task[bool]] = {}
        self._background: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """Whether anything is being published, or waits to be cleared."""
        return bool(self._to_clear or self._background or self._in_flight)

    @property
    def has_confirmed(self) -> bool:
        return bool(self._to_clear)

    def unconfirmed(self, entries: Iterable[Document]) -> list[Document]:
        """The entries that have still to be published, as far as this process knows."""
        return [entry for entry in entries if entry["id"] not in self._confirmed]

    # Clearing

    def take_confirmed(self) -> dict[str, list[str]]:
        """What to clear, by document. Each of it comes back by `cleared` or `not_cleared`."""
        taken, self._to_clear = self._to_clear, {}
        return taken

    def cleared(self, event_ids: Iterable[str]) -> None:
        self._confirmed.difference_update(event_ids)

    def not_cleared(self, id: str, event_ids: list[str]) -> None:
        self._to_clear.setdefault(id, []).extend(event_ids)

    def forget_confirmed(self) -> None:
        """Give clearing up: the relay will say these events again, and clear them again."""
        for event_ids in self.take_confirmed().values():
            self.cleared(event_ids)

    # Publishing

    def publish_soon(self, id: str, entries: Sequence[Document], then: Callable[[], None]) -> None:
        """Publish a document's events and call `then`, or call it at once where they are left to the relay."""
        if not entries or self.publisher is None or len(self._background) >= PUBLISHING_LIMIT:
            then()
            return

        async def publish() -> None:
            try:
                await self._publish(id, entries)
            finally:
                then()

        task = asyncio.create_task(publish())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _publish(self, id: str, entries: Sequence[Document]) -> int:
        """Publish entries not already on their way, and mark the confirmed ones to be cleared."""
        tasks = []
        for entry in self.unconfirmed(entries):
            if (task := self._in_flight.get(entry["id"])) is None:
                task = self._in_flight[entry["id"]] = asyncio.create_task(self._send(id, entry))
            tasks.append(task)
        return sum(await asyncio.gather(*tasks)) if tasks else 0

    async def _send(self, id: str, entry: Document) -> bool:
        event_id: str = entry["id"]
        try:
            if self.publisher is None:
                return False
            # A newer version of us may have written more; what we know of it is enough to publish it.
            await self.publisher.publish(Outgoing(**{name: entry[name] for name in _KNOWN}))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return False  # a frozen broker surfaces so; the relay will try again
        except Exception as error:
            metrics.publish_failures.labels(entry["exchange"]).inc()
            log.warning(
                "publish_left_to_relay",
                event_id=event_id,
                type=entry["type"],
                correlation_id=entry["correlation_id"],
                error=repr(error)[:300],
            )
            return False
        finally:
            self._in_flight.pop(event_id, None)
        self._confirmed.add(event_id)
        self._to_clear.setdefault(id, []).append(event_id)
        if len(self._to_clear) == 1:
            self._wake()
        return True

    # Relay

    async def run_relay(self) -> None:
        """Publish what a crash or an outage left in an outbox; every replica runs one."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            while await self._relay_once() == SWEEP_LIMIT:
                pass

    async def _relay_once(self) -> int:
        name = self._collection.name
        metrics.outbox_lag_seconds.labels(name).set(await self.lag())
        if self.publisher is None:
            return 0
        now = machine_clock()
        left = await lease(
            self._collection, "outbox_since", "relay", until=now - RELAY_GRACE, now=now, last=RELAY_LEASE
        )
        published = await asyncio.gather(
            *(self._publish(document["_id"], document["outbox"]) for document in left)
        )
        if total := sum(published):
            metrics.relayed.labels(name).inc(total)
            log.info("outbox_relayed", aggregate=name, events=total)
        return len(left) if all(published) else 0

    async def lag(self) -> float:
        """Seconds the oldest unpublished event has waited. Raises `Unavailable`."""
        with asking():
            oldest = await self._collection.find_one(
                {"outbox_since": {"$exists": True}}, {"outbox_since": 1}, sort=[("outbox_since", ASCENDING)]
            )
        return (machine_clock() - oldest["outbox_since"]).total_seconds() if oldest else 0.0


def entry_of(outgoing: Outgoing) -> Document:
    return {**{name: getattr(outgoing, name) for name in _KNOWN}, "at": machine_clock()}


def clearing(published: dict[str, list[str]]) -> UpdateMany:
    """Take published events, by document, out of the outboxes, whatever else has happened to them meanwhile."""
    event_ids = [event_id for ids in published.values() for event_id in ids]
    kept = {
        "$filter": {"input": "$outbox", "as": "entry", "cond": {"$not": {"$in": ["$$entry.id", event_ids]}}}
    }
    empty = {"$eq": [{"$size": "$outbox"}, 0]}
    first = {"$arrayElemAt": ["$outbox.at", 0]}
    return UpdateMany(
        {"_id": {"$in": list(published)}},
        [
            {"$set": {"outbox": kept}},
            {
                "$set": {
                    "outbox_since": {"$cond": [empty, "$$REMOVE", first]},
                    "relay_lease": {"$cond": [empty, "$$REMOVE", "$relay_lease"]},
                    "relay_owner": {"$cond": [empty, "$$REMOVE", "$relay_owner"]},
                }
            },
        ],
    )
