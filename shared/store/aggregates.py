"""Aggregates: decisions applied to documents, with their writes grouped as databases group their logs.

A message leads to a pure decision; the new state, the message's id (inbox) and the events to publish (outbox)
become durable in one document write, so no crash can separate them. Writes of concurrent handlers are
coalesced into one unordered bulk, published with pipelined confirms, and only then is the handler let go.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from time import perf_counter
from typing import Any, Generic, TypeVar

import structlog
from pydantic import BaseModel
from pymongo import ASCENDING, ReplaceOne
from pymongo.errors import BulkWriteError

from shared import metrics
from shared.clock import Clock
from shared.contracts.cloudevents import CloudEvent
from shared.store.cause import Cause, Message, Outgoing
from shared.store.driver import DUPLICATE_KEY, PASSING_CODES, Collection, Document, asking, is_outage, reason
from shared.store.leases import SWEEP_LIMIT, lease
from shared.store.outbox import Outbox, Publisher, clearing
from shared.store.staging import Already, Job, Outcome, Shape, Staged

__all__ = ["Aggregates", "Already", "ClaimTaken", "Outcome", "Publisher"]

log = structlog.get_logger()

GROUP_LIMIT = 200
CLEAR_SECONDS = 0.25  # an outbox alone may wait so long for a group to ride along with
LINGER_SECONDS = 0.015
CROWD = 4  # a smaller group shows that there is nobody worth waiting for
LINGER_BELOW = 32
SWEEP_SECONDS = 1.0
PASSING_PAUSE = 0.2

S = TypeVar("S", bound=BaseModel)
O = TypeVar("O", bound=Outcome[Any])  # noqa: E741


class ClaimTaken(Exception):
    """Another document holds a claim this one asked for: read again, decide again."""


class Aggregates(Generic[S, O]):
    """The aggregates of one kind, each one document of one collection.

    `announce` builds the events of an outcome. `claims` gives strings no two documents may share. `due` gives
    the instant at which `on_due` is to be called. `tell` gives the one line a timeline shows. `remember` is how
    many documents just written are kept in memory, to be decided on again without a read; the version in each
    write finds out where another replica was faster. `listed_by` is a field every document is listed by;
    `marks` are fields few documents have a text in, and are found by; `joins`, one of those, names another
    correlation whose story the document belongs to as well.
    """

    def __init__(
        self,
        collection: Collection,
        state: type[S],
        announce: Callable[[O, Cause], Sequence[CloudEvent | Outgoing]],
        *,
        clock: Clock,
        claims: Callable[[S], Sequence[str]] | None = None,
        due: Callable[[S], datetime | None] | None = None,
        tell: Callable[[S], str] | None = None,
        remember: int = 0,
        listed_by: str | None = None,
        joins: str | None = None,
        marks: Sequence[str] = (),
    ) -> None:
        self.name = collection.name
        self._collection = collection
        self._state = state
        self._clock = clock
        self._shape = Shape(collection.name, state, announce, claims, due)
        self._tell = tell
        self._remember = remember
        self._listed_by = listed_by
        self._joins = joins
        self._marks = (*marks, joins) if joins else tuple(marks)
        self._recent: OrderedDict[str, Document] = OrderedDict()
        self._waiting: deque[Job] = deque()
        self._wake = asyncio.Event()
        self._written_at = 0.0
        self._linger = 0.0
        self._committing = False
        self.outbox = Outbox(collection, self._wake.set)

    # What services call

    async def apply(
        self,
        message: Message,
        decide: Callable[[S | None], O],
        *,
        id: str | None = None,
        opens: bool = False,
        wait_published: bool = True,
    ) -> O | Already[S]:
        """Take `message` once: decide, write, publish.

        `id` names the aggregate; by default it is the message's correlation id, the enquiry. `decide` may be
        called several times and must be pure. `opens` says that this message usually is the aggregate's first:
        it is decided before the database is asked, and again if the write finds one there. Returns when the
        change is durable and, unless `wait_published` is false, its events are confirmed by the broker or left
        to the relay. While the database is away it waits; a caller that must answer in time cancels it, and may
        find the message taken later.

        Raises `ClaimTaken` where another document holds a claim, and whatever `decide` raised.
        """
        job = Job(
            id or message.correlationid,
            message,
            decide,
            opens,
            wait_published,
            asyncio.get_running_loop().create_future(),
        )
        self._waiting.append(job)
        self._wake.set()
        answer: O | Already[S] = await job.done
        return answer

    async def get(self, id: str) -> S | None:
        """The aggregate as it is now. Raises `Unavailable`."""
        with asking():
            document = await self._collection.find_one({"_id": id}, {"state": 1})
        return self._state.model_validate(document["state"]) if document else None

    async def claimed(self, ranges: Sequence[tuple[str, str]]) -> frozenset[str]:
        """Every claim held by a document that holds one in any of the ranges (from, to; text order).

        Raises `Unavailable`.
        """
        if not ranges:
            return frozenset()
        query = {"$or": [{"claims": {"$elemMatch": {"$gte": low, "$lt": high}}} for low, high in ranges]}
        with asking():
            documents = await self._collection.find(query, {"claims": 1}).to_list(length=None)
        return frozenset(claim for document in documents for claim in document["claims"])

    async def claimed_by(self, claim: str) -> str | None:
        """The correlation id of the aggregate that holds `claim`. Raises `Unavailable`."""
        if self._shape.claims is None:
            return None
        with asking():
            document = await self._collection.find_one({"claims": claim}, {"correlation": 1})
        return document["correlation"] if document else None

    async def documents(
        self, query: Document, limit: int = 100, only: Sequence[str] | None = None
    ) -> list[Document]:
        """Whole documents, or `only` some fields of them, newest first. Raises `Unavailable`."""
        with asking():
            found = self._collection.find(query, list(only) if only else None)
            return await found.sort("updated_at", -1).limit(limit).to_list(length=limit)

    async def ids(self, query: Document, *, after: str = "", limit: int = 100) -> list[str]:
        """The ids of documents, in their order, from the first after `after`. Raises `Unavailable`."""
        with asking():
            found = self._collection.find({"$and": [query, {"_id": {"$gt": after}}]}, {"_id": 1})
            documents = await found.sort("_id", ASCENDING).limit(limit).to_list(length=limit)
        return [document["_id"] for document in documents]

    async def ask(self, stages: Sequence[Document]) -> list[Document]:
        """What an aggregation over all documents gives. Raises `Unavailable`."""
        with asking():
            return await self._collection.aggregate(list(stages)).to_list(length=None)

    async def story(self, correlation_id: str) -> list[Document]:
        """What these aggregates took and said about one enquiry, oldest first."""
        lines: list[Document] = []
        query: Document = {"correlation": correlation_id}
        if self._joins:
            query = {"$or": [query, {self._joins: correlation_id}]}
        for document in await self.documents(query):
            state = self._state.model_validate(document["state"])
            lines += [
                {
                    "at": entry["at"],
                    "aggregate": self.name,
                    "id": document["_id"],
                    "took": entry["type"],
                    "outcome": entry["outcome"],
                    "said": [said["type"] for said in entry["said"]],
                    "now": self._tell(state) if self._tell else "",
                    "unpublished": len(document["outbox"]),
                }
                for entry in document["inbox"]
            ]
        return sorted(lines, key=lambda line: line["at"])

    # What the store runs

    async def ensure_indexes(self) -> None:
        await self._collection.create_index([("correlation", ASCENDING)])
        await self._collection.create_index(
            [("outbox_since", ASCENDING)], partialFilterExpression={"outbox_since": {"$exists": True}}
        )
        if self._listed_by:
            await self._collection.create_index([(self._listed_by, ASCENDING), ("updated_at", ASCENDING)])
        for mark in self._marks:
            await self._collection.create_index(
                [(mark, ASCENDING)], partialFilterExpression={mark: {"$gt": ""}}
            )
        if self._shape.claims:
            await self._collection.create_index(
                [("claims", ASCENDING)], unique=True, partialFilterExpression={"claims": {"$exists": True}}
            )
        if self._shape.due:
            await self._collection.create_index(
                [("due_at", ASCENDING)], partialFilterExpression={"due_at": {"$exists": True}}
            )

    def publish_with(self, publisher: Publisher) -> None:
        self.outbox.publisher = publisher

    async def run_commits(self) -> None:
        """Write group after group, for ever; while one is being written the next gathers."""
        while True:
            if not self._waiting:
                self._wake.clear()
                # Cleared outboxes ride along with the next group; with no next group they go after a moment.
                with suppress(TimeoutError):
                    # Not `wait_for`: before Python 3.12 it swallows a cancellation that comes as it wakes.
                    async with asyncio.timeout(CLEAR_SECONDS if self.outbox.has_confirmed else None):
                        await self._wake.wait()
            elif len(self._waiting) < LINGER_BELOW and perf_counter() - self._written_at < self._linger:
                await asyncio.sleep(self._linger)  # busy: a moment's wait makes one group of several
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), GROUP_LIMIT))]
            self._committing = True
            try:
                await self._commit_through_outages([job for job in group if not job.done.done()])
            except BaseException:
                self._waiting.extendleft(reversed(group))  # nobody's message may be left without an answer
                raise
            finally:
                self._committing = False

    async def flush(self) -> None:
        """Wait until nothing is being written, published or cleared; the store bounds the wait."""
        while self._waiting or self._committing or self.outbox.busy:
            self._wake.set()
            await asyncio.sleep(0.01)

    async def run_timers(self, on_due: Callable[[S, datetime], Awaitable[None]], last: timedelta) -> None:
        """Call `on_due` for every aggregate whose time has come, with the end of the lease that keeps other
        replicas off it: the last of many may be reached long after they were leased."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            full = True
            while full:
                now = self._clock()
                due = await lease(self._collection, "due_at", "timer", until=now, now=now, last=last)
                for document in due:
                    try:
                        await on_due(self._state.model_validate(document["state"]), document["timer_lease"])
                    except Exception:
                        # Its lease brings it back. The others must not wait for it: they would every time.
                        log.exception("due_aggregate_failed", aggregate=self.name, id=document["_id"])
                full = len(due) == SWEEP_LIMIT

    # Group commit

    async def _commit_through_outages(self, jobs: list[Job]) -> None:
        pause = 0.1
        while jobs or self.outbox.has_confirmed:
            try:
                await self._commit(jobs)
                return
            except Exception as error:
                if not is_outage(error):
                    await self._commit_one_by_one(jobs, error)
                    return
                log.warning("database_away", aggregate=self.name, error=reason(error), waiting=len(jobs))
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)
            jobs = [job for job in jobs if not job.done.done()]

    async def _commit_one_by_one(self, jobs: list[Job], error: Exception) -> None:
        """A document the driver refuses to send must not hold up the others of its group."""
        if len(jobs) <= 1:
            for job in jobs:
                job.answer(error)
            if not jobs:
                log.error("outbox_clear_refused", aggregate=self.name, error=type(error).__name__)
                self.outbox.forget_confirmed()
            return
        for job in jobs:
            await self._commit_through_outages([job])

    async def _commit(self, jobs: list[Job]) -> None:
        by_id: dict[str, list[Job]] = {}
        later: list[Job] = []
        for job in jobs:
            same = by_id.setdefault(job.aggregate_id, [])
            (later if same and (job.alone or same[0].alone) else same).append(job)
        staged = await self._decide(by_id)
        written = [item for item in staged if item.changed]
        refused = await self._write(written)
        for index, item in enumerate(written):
            if problem := refused.get(index):
                self._recent.pop(item.id, None)
                self._refuse(item, problem)
            else:
                self._keep_in_mind(item.document)
                self._count(item)
                self._settle(item)
        for item in staged:
            if not item.changed and item.asked:
                self._settle(item)
            elif not item.changed:
                self._again(item)  # what was decided without asking was not tried by a write either
        self._waiting.extendleft(reversed(later))
        if any(problem.get("code") in PASSING_CODES for problem in refused.values()):
            await asyncio.sleep(PASSING_PAUSE)

    async def _decide(self, by_id: dict[str, list[Job]]) -> list[Staged]:
        known = {id: self._recent[id] for id in by_id if id in self._recent}
        asked = {id for id, jobs in by_id.items() if id not in known and not all(job.opens for job in jobs)}
        if asked:
            found = await self._collection.find({"_id": {"$in": list(asked)}}).to_list(length=None)
            known |= {document["_id"]: document for document in found}
        now = self._clock()
        return [
            self._shape.stage(
                id, known.get(id), jobs, now=now, asked=id in asked, unconfirmed=self.outbox.unconfirmed
            )
            for id, jobs in by_id.items()
        ]

    async def _write(self, written: list[Staged]) -> dict[int, Document]:
        """Write the documents and clear what has been published, as one bulk; gives what was refused, by index."""
        clears = self.outbox.take_confirmed()
        operations: list[Any] = [
            ReplaceOne({"_id": item.id, "version": item.version}, item.document, upsert=True)
            for item in written
        ]
        if clears:
            operations.append(clearing(clears))
        if not operations:
            return {}
        refused: dict[int, Document] = {}
        started = perf_counter()
        try:
            await self._collection.bulk_write(operations, ordered=False)
        except Exception as error:
            if not isinstance(error, BulkWriteError) or is_outage(error):
                for id, event_ids in clears.items():
                    self.outbox.not_cleared(id, event_ids)
                raise
            refused = {problem["index"]: problem for problem in error.details["writeErrors"]}
        took = perf_counter() - started
        if written:
            self._written_at = started + took
            self._linger = min(took, LINGER_SECONDS) if len(written) >= CROWD else 0.0
        metrics.group_size.labels(self.name).observe(len(operations))
        metrics.commit_seconds.labels(self.name).observe(took)
        for id, event_ids in clears.items():
            if len(written) in refused:
                self.outbox.not_cleared(id, event_ids)
                continue
            self.outbox.cleared(event_ids)
            if recent := self._recent.get(id):
                recent["outbox"] = [entry for entry in recent["outbox"] if entry["id"] not in event_ids]
        return refused

    def _keep_in_mind(self, document: Document) -> None:
        if self._remember:
            self._recent[document["_id"]] = document
            self._recent.move_to_end(document["_id"])
            if len(self._recent) > self._remember:
                self._recent.popitem(last=False)

    def _refuse(self, item: Staged, problem: Document) -> None:
        """One document of the group was not written: a stale version and a passing fault go round again."""
        code = problem.get("code")
        jobs = [job for job, _ in item.answers]
        if code == DUPLICATE_KEY and "claims" in problem.get("keyPattern", {}):
            if len(jobs) == 1:
                jobs[0].answer(ClaimTaken(str(problem.get("keyValue", {}).get("claims"))))
                return
            for job in jobs:
                job.alone = True  # only one of them asked for the claim
            self._again(item)
        elif code == DUPLICATE_KEY or code in PASSING_CODES:
            metrics.conflicts.labels(self.name).inc()
            self._again(item)
        else:
            for job in jobs:
                job.answer(RuntimeError(f"the database refused the write: {problem.get('errmsg')}"))

    def _again(self, item: Staged) -> None:
        """Decide its messages once more, on what the database holds."""
        self._recent.pop(item.id, None)
        jobs = [job for job, _ in item.answers if not job.done.done()]
        for job in jobs:
            job.opens = False
        self._waiting.extendleft(reversed(jobs))
        self._wake.set()

    def _count(self, item: Staged) -> None:
        for _, answer in item.answers:
            if not isinstance(answer, Already | Exception):
                metrics.decided.labels(self.name, type(answer).__name__).inc()

    def _settle(self, item: Staged) -> None:
        """The document is durable: publish its outbox, then let its handlers go."""

        def answer_all() -> None:
            for job, answer in item.answers:
                job.answer(answer)

        for job, answer in item.answers:
            if not job.wait_published or isinstance(answer, Exception):
                job.answer(answer)
        self.outbox.publish_soon(item.id, item.document["outbox"], answer_all)
