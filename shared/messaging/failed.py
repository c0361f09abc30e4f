"""Failed messages: kept with their error until an operator replays or discards them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, assert_never
from uuid import uuid4

from faststream.rabbit import RabbitMessage
from pydantic import BaseModel, ConfigDict

from shared.clock import Clock
from shared.messaging.delivery import failed_at, identity
from shared.messaging.topology import Topology
from shared.store.aggregates import Aggregates, Already
from shared.store.cause import Cause, Incoming, Outgoing
from shared.store.database import Store


class FailedMessage(BaseModel):
    """One message that could not be handled. `times` counts how often it failed, replays included."""

    model_config = ConfigDict(frozen=True)

    queue: str
    message_id: str
    type: str
    correlation_id: str
    content_type: str
    body: bytes
    error_type: str
    error: str
    failed_at: datetime
    times: int = 1
    status: Literal["open", "replayed", "discarded"] = "open"
    decided_by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    state: FailedMessage


@dataclass(frozen=True, slots=True)
class Replayed:
    state: FailedMessage


@dataclass(frozen=True, slots=True)
class Discarded:
    state: FailedMessage


Outcome = Kept | Replayed | Discarded


class NotOpen(Exception):
    """The failed message is unknown, or has been replayed or discarded already."""


class NoSuchQueue(Exception):
    """The queue it failed in is none of this service's, or not any more: nothing could be replayed to it."""


def keep(known: FailedMessage | None, arrived: FailedMessage) -> Kept:
    return Kept(arrived.model_copy(update={"times": known.times + 1}) if known else arrived)


def replay(known: FailedMessage | None, operator: str, queues: frozenset[str]) -> Replayed:
    if known is None or known.status != "open":
        raise NotOpen
    if known.queue not in queues:
        raise NoSuchQueue(known.queue)
    return Replayed(known.model_copy(update={"status": "replayed", "decided_by": operator}))


def discard(known: FailedMessage | None, operator: str, reason: str) -> Discarded:
    if known is None or known.status != "open":
        raise NotOpen
    return Discarded(
        known.model_copy(update={"status": "discarded", "decided_by": operator, "reason": reason})
    )


class FailedMessages:
    """A service's failed messages: filled from its dead-letter queue, emptied by operators."""

    def __init__(self, store: Store, topology: Topology, clock: Clock) -> None:
        self._topology = topology
        self._clock = clock
        self._kept: Aggregates[FailedMessage, Outcome] = store.aggregates(
            "failed_messages",
            FailedMessage,
            self._announce,
            tell=lambda failed: f"{failed.status}: {failed.error_type} in {failed.queue}",
            listed_by="state.status",
        )

    def _announce(self, outcome: Outcome, cause: Cause) -> Sequence[Outgoing]:
        match outcome:
            case Replayed(state=failed):
                return [
                    Outgoing(
                        id=f"{failed.message_id}/{cause.message_id}",
                        type=failed.type,
                        exchange=self._topology.back,
                        routing_key=failed.queue,
                        body=failed.body,
                        message_id=failed.message_id,
                        correlation_id=failed.correlation_id,
                        content_type=failed.content_type,
                    )
                ]
            case Kept() | Discarded():
                return []
            case _:
                assert_never(outcome)

    async def drain(self, msg: RabbitMessage) -> None:
        """Take one message from the dead-letter queue; the same one delivered twice counts once."""
        raw, headers = msg.raw_message, dict(msg.headers)
        deaths = headers.get("x-death")
        first_death: dict[str, Any] = deaths[0] if isinstance(deaths, list) and deaths else {}
        queue = str(headers.get("x-queue") or first_death.get("queue") or raw.routing_key or "")
        message_id = identity(raw.message_id, raw.body)
        at = failed_at(headers, self._clock)
        arrived = FailedMessage(
            queue=queue,
            message_id=message_id,
            type=raw.type or "",
            correlation_id=raw.correlation_id or "",
            content_type=raw.content_type or "application/octet-stream",
            body=raw.body,
            error_type=str(headers.get("x-error-type") or first_death.get("reason") or "unknown"),
            error=str(headers.get("x-error") or "dead-lettered by the broker"),
            failed_at=at,
        )
        id = hashlib.sha256(f"{queue}|{message_id}".encode()).hexdigest()[:24]
        cause = Incoming(
            f"dead/{id}/{headers.get('x-failed-at') or first_death.get('time') or at}",
            "message.dead-lettered",
            arrived.correlation_id or id,
        )
        await self._kept.apply(cause, lambda known: keep(known, arrived), id=id)

    async def open(self, limit: int = 100) -> list[tuple[str, FailedMessage]]:
        """The newest messages that wait for an operator, with their ids."""
        documents = await self._kept.documents({"state.status": "open"}, limit)
        return [(document["_id"], FailedMessage.model_validate(document["state"])) for document in documents]

    async def replay(self, id: str, operator: str) -> FailedMessage:
        """Send the message to its queue again, under its own id, so that an effect it has had is not had twice.

        Raises `NotOpen`, `NoSuchQueue`.
        """
        queues = frozenset(name for name, *_ in self._topology.queues)
        answer = await self._kept.apply(
            _command("replay", id), lambda known: replay(known, operator, queues), id=id
        )
        return _state(answer)

    async def discard(self, id: str, operator: str, reason: str) -> FailedMessage:
        """Raises `NotOpen`."""
        command = _command("discard", id)
        answer = await self._kept.apply(command, lambda known: discard(known, operator, reason), id=id)
        return _state(answer)


def _command(kind: str, id: str) -> Incoming:
    return Incoming(f"{kind}/{uuid4().hex}", f"failed-message.{kind}", id)


def _state(answer: Outcome | Already[FailedMessage]) -> FailedMessage:
    return answer.state
