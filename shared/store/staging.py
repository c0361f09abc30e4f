"""Decisions in memory: what the messages waiting for one aggregate make of its document, before it is written."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel

from shared import metrics
from shared.contracts.cloudevents import CloudEvent
from shared.store.cause import Cause, Message, Outgoing
from shared.store.driver import Document
from shared.store.outbox import entry_of

INBOX_KEPT = 1_000
"""Newest message ids a document remembers; a replay older than that meets only the decision's own guards."""

S = TypeVar("S", bound=BaseModel)
S_co = TypeVar("S_co", bound=BaseModel, covariant=True)


class Outcome(Protocol[S_co]):
    """What a decision returns: a frozen fact about what was decided, with the aggregate after it."""

    @property
    def state(self) -> S_co: ...


@dataclass(frozen=True, slots=True)
class Already(Generic[S]):
    """The aggregate had taken this message before; `state` is what it is now."""

    state: S


@dataclass(slots=True)
class Job:
    """One message that waits to be taken. `opens`: it is thought to be the aggregate's first. `alone`: it is
    decided and written with no other message of the aggregate."""

    aggregate_id: str
    message: Message
    decide: Callable[[Any], Any]
    opens: bool
    wait_published: bool
    done: "asyncio.Future[Any]"
    alone: bool = False

    def answer(self, answer: Any) -> None:
        """Let the one who waits go on; an exception is raised there. Twice is harmless."""
        if self.done.done():
            return
        if isinstance(answer, Exception):
            self.done.set_exception(answer)
        else:
            self.done.set_result(answer)


@dataclass(slots=True)
class Staged:
    """One document about to be written, and who waits for it. `asked` says that the database knows it so."""

    id: str
    document: Document
    version: int
    asked: bool
    answers: list[tuple[Job, Any]] = field(default_factory=list)
    changed: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """How the aggregates of one kind become documents. See `Aggregates` for what each function gives."""

    name: str
    state: type[BaseModel]
    announce: Callable[[Any, Cause], Sequence[CloudEvent | Outgoing]]
    claims: Callable[[Any], Sequence[str]] | None
    due: Callable[[Any], datetime | None] | None

    def stage(
        self,
        id: str,
        document: Document | None,
        jobs: Sequence[Job],
        *,
        now: datetime,
        asked: bool,
        unconfirmed: Callable[[list[Document]], list[Document]],
    ) -> Staged:
        """Decide every waiting message of one aggregate, one after the other, in memory."""
        state = self.state.model_validate(document["state"]) if document else None
        old: Document = document or {"version": 0, "inbox": [], "outbox": [], "created_at": now}
        inbox = list(old["inbox"])
        outbox = unconfirmed(old["outbox"])
        taken = {entry["id"] for entry in inbox}
        staged = Staged(id, {**old, "outbox": outbox}, old["version"], asked)
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
                    for entry in self.announce(outcome, cause)
                ]
            except Exception as error:
                staged.answers.append((job, error))  # a later answer: what it was decided on may not be so
                continue
            kind = type(outcome).__name__
            if outcome.state is state and not said:
                staged.answers.append((job, outcome))  # nothing changed, so there is nothing to write
                continue
            state = outcome.state
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
            outbox += [entry_of(entry) for entry in said]
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
            if self.claims and (claims := self.claims(state)):
                staged.document["claims"] = list(claims)
            if self.due and (due := self.due(state)):
                staged.document["due_at"] = due
        return staged
