"""Aggregates: decisions applied to documents, with their writes grouped as databases group their logs.

A message leads to a pure decision; the new state, the message's id (inbox) and the events to publish (outbox)
become durable in one document write, so no crash can separate them. Writes of concurrent handlers are
coalesced into one unordered bulk, published with pipelined confirms, and only then is the handler let go.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import perf_counter
from typing import Any, Generic, Protocol, TypeVar
from uuid import uuid4

import structlog
from pydantic import BaseModel
from pymongo import ASCENDING, ReplaceOne, UpdateOne
from pymongo.errors import BulkWriteError

from shared import metrics
from shared.clock import Clock
from shared.contracts.cloudevents import CloudEvent
from shared.store.cause import Cause, Message, Outgoing
from shared.store.driver import DUPLICATE_KEY, PASSING_CODES, Collection, Document, asking, is_outage

log = structlog.get_logger()

GROUP_LIMIT = 200
LINGER_SECONDS = 0.004
LINGER_BELOW = 16
INBOX_KEPT = 1_000
"""Newest message ids a document remembers; a replay older than that meets only the decision's own guards."""
RELAY_GRACE = timedelta(seconds=5)
RELAY_LEASE = timedelta(seconds=15)
SWEEP_SECONDS = 1.0
SWEEP_LIMIT = 200

S = TypeVar("S", bound=BaseModel)
S_co = TypeVar("S_co", bound=BaseModel, covariant=True)


class Outcome(Protocol[S_co]):
    """What a decision returns: a frozen fact about what was decided, with the aggregate after it."""

    @property
    def state(self) -> S_co: ...


O = TypeVar("O", bound=Outcome[Any])  # noqa: E741


@dataclass(frozen=True, slots=True)
class Already(Generic[S]):
    """The aggregate had taken this message before; `state` is what it is now."""

    state: S


class ClaimTaken(Exception):
    """Another document holds a claim this one asked for: read again, decide again."""


class Publisher(Protocol):
    async def publish(self, entry: Outgoing) -> None:
        """Return once the broker has confirmed; raise otherwise."""


@dataclass(slots=True)
class _Job:
    aggregate_id: str
    message: Message
    decide: Callable[[Any], Any]
    opens: bool
    wait_published: bool
    done: "asyncio.Future[Any]"


@dataclass(slots=True)
class _Staged:
    """One document about to be written, and who waits for it."""

    document: Document
    version: int
    answers: list[tuple[_Job, Any]] = field(default_factory=list)
    changed: bool = False


class Aggregates(Generic[S, O]):
    """The aggregates of one kind, each one document of one collection.

    `announce` builds the events of an outcome. `claims` gives strings no two documents may share. `due` gives
    the instant at which `on_due` is to be called. `tell` gives the one line a timeline shows. `remember` is how
    many documents just written are kept in memory, to be decided on again without a read; the version in each
    write finds out where another replica was faster.
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
    ) -> None:
        self.name = collection.name
        self._collection = collection
        self._state = state
        self._announce = announce
        self._clock = clock
        self._claims = claims
        self._due = due
        self._tell = tell
        self._remember = remember
        self._recent: OrderedDict[str, Document] = OrderedDict()
        self._waiting: deque[_Job] = deque()
        self._wake = asyncio.Event()
        self._written_at = 0.0
        self._clears: dict[str, list[str]] = {}
        self._confirmed: set[str] = set()
        self._in_flight: dict[str, asyncio.Task[bool]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._publisher: Publisher | None = None
        self.lease_owner = uuid4().hex

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
        it is decided before the database is asked, and again if the write finds one there. Returns when the change is durable and, unless `wait_published`
        is false, its events are confirmed by the broker or left to the relay. While the database is away it
        waits; a caller that must answer in time cancels it, and may find the message taken later.

        Raises `ClaimTaken` where another document holds a claim, and whatever `decide` raised.
        """
        job = _Job(
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
        query = {"$or": [{"claims": {"$elemMatch": {"$gte": low, "$lt": high}}} for low, high in ranges]}
        with asking():
            documents = await self._collection.find(query, {"claims": 1}).to_list(length=None)
        return frozenset(claim for document in documents for claim in document["claims"])

    async def claimed_by(self, claim: str) -> str | None:
        """The correlation id of the aggregate that holds `claim`."""
        if self._claims is None:
            return None
        document = await self._collection.find_one({"claims": claim}, {"correlation": 1})
        return document["correlation"] if document else None

    async def documents(self, query: Document, limit: int = 100) -> list[Document]:
        """Whole documents, newest first, for an operator to look at."""
        return await self._collection.find(query).sort("updated_at", -1).limit(limit).to_list(length=limit)

    async def story(self, correlation_id: str) -> list[Document]:
        """What these aggregates took and said about one enquiry, oldest first."""
        lines: list[Document] = []
        for document in await self.documents({"correlation": correlation_id}):
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
        if self._claims:
            await self._collection.create_index(
                [("claims", ASCENDING)], unique=True, partialFilterExpression={"claims": {"$exists": True}}
            )
        if self._due:
            await self._collection.create_index(
                [("due_at", ASCENDING)], partialFilterExpression={"due_at": {"$exists": True}}
            )

    def publish_with(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def run_commits(self) -> None:
        """Write group after group, for ever; while one is being written the next gathers."""
        while True:
            if not self._waiting:
                self._wake.clear()
                # Cleared outboxes ride along with the next group; with no next group they go after a moment.
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), 0.05 if self._clears else None)
            elif len(self._waiting) < LINGER_BELOW and perf_counter() - self._written_at < LINGER_SECONDS:
                await asyncio.sleep(LINGER_SECONDS)  # busy: a moment's wait makes one group of several
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), GROUP_LIMIT))]
            try:
                await self._commit_through_outages([job for job in group if not job.done.done()])
            except BaseException:
                self._waiting.extendleft(reversed(group))  # nobody's message may be left without an answer
                raise

    async def flush(self) -> None:
        """Wait until nothing is being written, published or cleared; the store bounds the wait."""
        while self._waiting or self._clears or self._background or self._in_flight:
            self._wake.set()
            await asyncio.sleep(0.01)

    async def run_relay(self) -> None:
        """Publish what a crash or an outage left in an outbox; every replica runs one."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            while await self._relay_once() == SWEEP_LIMIT:
                pass

    async def run_timers(self, on_due: Callable[[S, datetime], Awaitable[None]], lease: timedelta) -> None:
        """Call `on_due` for every aggregate whose time has come, with the end of the lease that keeps other
        replicas off it: the last of many may be reached long after they were leased."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            full = True
            while full:
                due = await self._claim("due_at", "timer", self._clock(), lease)
                for document in due:
                    await on_due(self._state.model_validate(document["state"]), document["timer_lease"])
                full = len(due) == SWEEP_LIMIT

    async def outbox_lag(self) -> float:
        """Seconds the oldest unpublished event has waited."""
        oldest = await self._collection.find_one(
            {"outbox_since": {"$exists": True}}, {"outbox_since": 1}, sort=[("outbox_since", ASCENDING)]
        )
        return (self._clock() - oldest["outbox_since"]).total_seconds() if oldest else 0.0

    # Group commit

    async def _commit_through_outages(self, jobs: list[_Job]) -> None:
        pause = 0.1
        while jobs or self._clears:
            try:
                await self._commit(jobs)
                return
            except Exception as error:
                if not is_outage(error):
                    await self._commit_one_by_one(jobs, error)
                    return
                log.warning("database_away", aggregate=self.name, error=type(error).__name__, waiting=len(jobs))
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)
            jobs = [job for job in jobs if not job.done.done()]

    async def _commit_one_by_one(self, jobs: list[_Job], error: Exception) -> None:
        """A document the driver refuses to send must not hold up the others of its group."""
        if len(jobs) <= 1:
            for job in jobs:
                _answer(job, error)
            if not jobs:
                log.error("outbox_clear_refused", aggregate=self.name, error=repr(error))
                self._clears.clear()
            return
        for job in jobs:
            await self._commit_through_outages([job])

    async def _commit(self, jobs: list[_Job]) -> None:
        by_id: dict[str, list[_Job]] = {}
        for job in jobs:
            by_id.setdefault(job.aggregate_id, []).append(job)
        present = {id: self._recent[id] for id in by_id if id in self._recent}
        unknown = [
            id for id, waiting in by_id.items() if id not in present and not all(job.opens for job in waiting)
        ]
        if unknown:
            found = await self._collection.find({"_id": {"$in": unknown}}).to_list(length=None)
            present |= {document["_id"]: document for document in found}

        staged = [self._stage(id, present.get(id), waiting) for id, waiting in by_id.items()]
        written = [item for item in staged if item.changed]
        clears, self._clears = self._clears, {}
        operations: list[Any] = [
            ReplaceOne({"_id": item.document["_id"], "version": item.version}, item.document, upsert=True)
            for item in written
        ]
        operations += [_clear(id, event_ids) for id, event_ids in clears.items()]
        refused: dict[int, Document] = {}
        started = perf_counter()
        try:
            if operations:
                await self._collection.bulk_write(operations, ordered=False)
        except BulkWriteError as error:
            if is_outage(error):
                self._restore_clears(clears)
                raise
            refused = {problem["index"]: problem for problem in error.details["writeErrors"]}
        except Exception:
            self._restore_clears(clears)
            raise
        self._written_at = perf_counter()
        if operations:
            metrics.group_size.labels(self.name).observe(len(operations))
            metrics.commit_seconds.labels(self.name).observe(perf_counter() - started)
        for index, (id, event_ids) in enumerate(clears.items(), start=len(written)):
            if index in refused:
                self._clears.setdefault(id, []).extend(event_ids)
            else:
                self._confirmed.difference_update(event_ids)
                if recent := self._recent.get(id):
                    recent["outbox"] = [entry for entry in recent["outbox"] if entry["id"] not in event_ids]

        for index, item in enumerate(written):
            if problem := refused.get(index):
                self._recent.pop(item.document["_id"], None)
                self._refuse(item, problem)
            else:
                self._keep_in_mind(item.document)
                self._settle(item)
        for item in staged:
            if not item.changed:
                self._settle(item)

    def _keep_in_mind(self, document: Document) -> None:
        if self._remember:
            self._recent[document["_id"]] = document
            self._recent.move_to_end(document["_id"])
            if len(self._recent) > self._remember:
                self._recent.popitem(last=False)

    def _restore_clears(self, clears: dict[str, list[str]]) -> None:
        for id, event_ids in clears.items():
            self._clears.setdefault(id, []).extend(event_ids)

    def _stage(self, id: str, document: Document | None, jobs: list[_Job]) -> _Staged:
        """Decide every waiting message of one aggregate, one after the other, in memory."""
        now = self._clock()
        state = self._state.model_validate(document["state"]) if document else None
        old: Document = document or {"version": 0, "inbox": [], "outbox": [], "created_at": now}
        inbox = list(old["inbox"])
        outbox = [entry for entry in old["outbox"] if entry["id"] not in self._confirmed]
        taken = {entry["id"] for entry in inbox}
        staged = _Staged({**old, "outbox": outbox}, old["version"])
        for job in jobs:
            message = job.message
            if message.id in taken:
                metrics.duplicates.labels(self.name).inc()
                staged.answers.append((job, Already(state)))
                continue
            cause = Cause(message.id, message.correlationid, id, now, message.acceptedat)
            try:
                outcome = job.decide(state)
                said = [
                    Outgoing.of(entry) if isinstance(entry, CloudEvent) else entry
                    for entry in self._announce(outcome, cause)
                ]
            except Exception as error:
                _answer(job, error)
                continue
            kind = type(outcome).__name__
            if outcome.state is state and not said:
                staged.answers.append((job, outcome))  # nothing changed, so there is nothing to write
                continue
            state = outcome.state
            metrics.decided.labels(self.name, kind).inc()
            taken.add(message.id)
            inbox.append(
                {
                    "id": message.id,
                    "type": message.type,
                    "at": now,
                    "outcome": kind,
                    "said": [{"id": entry.id, "type": entry.type} for entry in said],
                }
            )
            outbox += [_entry(entry, now) for entry in said]
            staged.changed = True
            staged.answers.append((job, outcome))
        if staged.changed and state is not None:
            correlation = old.get("correlation") or jobs[0].message.correlationid
            staged.document = {
                "_id": id,
                "version": old["version"] + 1,
                "correlation": correlation,
                "state": state.model_dump(),
                "inbox": inbox[-INBOX_KEPT:],
                "outbox": outbox,
                "created_at": old["created_at"],
                "updated_at": now,
            }
            if outbox:
                staged.document["outbox_since"] = outbox[0]["at"]
            if self._claims and (claims := self._claims(state)):
                staged.document["claims"] = list(claims)
            if self._due and (due := self._due(state)):
                staged.document["due_at"] = due
        return staged

    def _refuse(self, item: _Staged, problem: Document) -> None:
        """One document of the group was not written: a stale version and a passing fault go round again."""
        code = problem.get("code")
        jobs = [job for job, answer in item.answers]
        if code == DUPLICATE_KEY and "claims" in problem.get("keyPattern", {}):
            for job in jobs:
                _answer(job, ClaimTaken(str(problem.get("keyValue", {}).get("claims"))))
        elif code == DUPLICATE_KEY or code in PASSING_CODES:
            metrics.conflicts.labels(self.name).inc()
            for job in jobs:
                job.opens = False
            self._waiting.extendleft(reversed([job for job in jobs if not job.done.done()]))
            self._wake.set()
        else:
            for job in jobs:
                _answer(job, RuntimeError(f"the database refused the write: {problem.get('errmsg')}"))

    def _settle(self, item: _Staged) -> None:
        """The document is durable: publish its outbox, then let its handlers go."""
        entries = item.document.get("outbox", [])
        if not entries or self._publisher is None:
            for job, answer in item.answers:
                _answer(job, answer)
            return
        for job, answer in item.answers:
            if not job.wait_published:
                _answer(job, answer)
        task = asyncio.create_task(self._publish_and_answer(item, entries))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _publish_and_answer(self, item: _Staged, entries: list[Document]) -> None:
        try:
            await self._publish(item.document["_id"], entries)
        finally:
            for job, answer in item.answers:
                _answer(job, answer)

    async def _publish(self, id: str, entries: list[Document]) -> int:
        """Publish entries not already on their way, and mark the confirmed ones to be cleared."""
        tasks = []
        for entry in entries:
            event_id = entry["id"]
            if event_id in self._confirmed:
                continue
            if (task := self._in_flight.get(event_id)) is None:
                task = asyncio.create_task(self._send(id, entry))
                self._in_flight[event_id] = task
            tasks.append(task)
        return sum(await asyncio.gather(*tasks)) if tasks else 0

    async def _send(self, id: str, entry: Document) -> bool:
        outgoing = Outgoing(**{key: value for key, value in entry.items() if key != "at"})
        try:
            if self._publisher is None:
                return False
            await self._publisher.publish(outgoing)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return False  # a frozen broker surfaces so; the relay will try again
        except Exception as error:
            metrics.publish_failures.labels(outgoing.exchange).inc()
            log.warning("publish_left_to_relay", event_id=outgoing.id, type=outgoing.type, error=repr(error)[:300])
            return False
        finally:
            self._in_flight.pop(outgoing.id, None)
        self._confirmed.add(outgoing.id)
        self._clears.setdefault(id, []).append(outgoing.id)
        if len(self._clears) == 1:
            self._wake.set()
        return True

    # Sweeps

    async def _relay_once(self) -> int:
        metrics.outbox_lag_seconds.labels(self.name).set(await self.outbox_lag())
        if self._publisher is None:
            return 0
        left = await self._claim("outbox_since", "relay", self._clock() - RELAY_GRACE, RELAY_LEASE)
        published = await asyncio.gather(
            *(self._publish(document["_id"], document["outbox"]) for document in left)
        )
        if total := sum(published):
            metrics.relayed.labels(self.name).inc(total)
            log.info("outbox_relayed", aggregate=self.name, events=total)
        return len(left) if all(published) else 0

    async def _claim(self, field: str, kind: str, until: datetime, last: timedelta) -> list[Document]:
        """Take a lease on the documents whose `field` has passed, oldest first."""
        now = self._clock()
        lease, owner = f"{kind}_lease", f"{kind}_owner"
        free = {
            field: {"$lte": until},
            "$or": [{lease: {"$exists": False}}, {lease: {"$lte": now}}],
        }
        found = (
            await self._collection.find(free, {"_id": 1}).sort(field, 1).limit(SWEEP_LIMIT).to_list(length=None)
        )
        if not found:
            return []
        token = f"{self.lease_owner}:{uuid4().hex}"
        ids = {"$in": [document["_id"] for document in found]}
        await self._collection.update_many(
            {"_id": ids, **free}, {"$set": {lease: now + last, owner: token}}
        )
        return await self._collection.find({"_id": ids, owner: token}).to_list(length=None)


def _answer(job: _Job, answer: Any) -> None:
    if job.done.done():
        return
    if isinstance(answer, Exception):
        job.done.set_exception(answer)
    else:
        job.done.set_result(answer)


def _entry(entry: Outgoing, now: datetime) -> Document:
    return {
        "id": entry.id,
        "type": entry.type,
        "exchange": entry.exchange,
        "routing_key": entry.routing_key,
        "body": entry.body,
        "message_id": entry.message_id,
        "correlation_id": entry.correlation_id,
        "content_type": entry.content_type,
        "headers": entry.headers,
        "at": now,
    }


def _clear(id: str, event_ids: list[str]) -> UpdateOne:
    """Take published events out of the outbox, whatever else has happened to the document meanwhile."""
    kept = {
        "$filter": {"input": "$outbox", "as": "entry", "cond": {"$not": {"$in": ["$$entry.id", event_ids]}}}
    }
    empty = {"$eq": [{"$size": "$outbox"}, 0]}
    first = {"$arrayElemAt": ["$outbox.at", 0]}
    return UpdateOne(
        {"_id": id},
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
