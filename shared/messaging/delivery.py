"""What becomes of each delivered message: taken, tried again later, or kept as a failed message.

Nothing is requeued at once (that is a hot loop) and nothing is dropped: a message is acknowledged only when it
has taken effect, or when the broker has confirmed that a retry tier or the dead-letter queue holds it.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog
from faststream import BaseMiddleware
from faststream.rabbit import RabbitMessage
from pydantic import ValidationError

from shared import metrics
from shared.clock import Clock
from shared.logs import where
from shared.messaging.publisher import BrokerPublisher
from shared.messaging.topology import Topology
from shared.store.cause import Outgoing
from shared.store.driver import is_outage, reason

if TYPE_CHECKING:
    from faststream import ContextRepo

log = structlog.get_logger()

OUTAGE_PAUSE = 2.0
EVIDENCE = frozenset({"x-queue", "x-error-type", "x-error", "x-failed-at"})


@dataclass(frozen=True, slots=True)
class Deliveries:
    """Makes the middleware of each message; one of these serves a whole broker."""

    topology: Topology
    publisher: BrokerPublisher
    clock: Clock

    def __call__(self, msg: Any, /, *, context: "ContextRepo") -> "Delivery":
        return Delivery(msg, context=context, deliveries=self)


class Delivery(BaseMiddleware[Any, Any]):
    """One message on its way through a handler."""

    def __init__(self, msg: Any, /, *, context: "ContextRepo", deliveries: Deliveries) -> None:
        super().__init__(msg, context=context)
        self._to = deliveries

    async def consume_scope(self, call_next: Any, msg: Any) -> Any:
        queue: str = self.context.get_local("handler_").queue.name
        with structlog.contextvars.bound_contextvars(
            queue=queue, message_id=msg.message_id, correlation_id=msg.correlation_id
        ):
            try:
                await self._take(call_next, msg)
            except (ValidationError, UnicodeDecodeError) as error:
                await self._fail(queue, msg, error)
            except Exception as error:
                await self._retry(queue, msg, error)
            else:
                await _acknowledge(msg)

    def _is_dead(self, queue: str) -> bool:
        """Whether it comes from the dead-letter queue: there is no other to send it to, so it never gives up."""
        return queue == self._to.topology.dead

    async def _take(self, call_next: Any, msg: RabbitMessage) -> None:
        """Run the handler; while the database is away, wait here: an outage uses up no attempt."""
        while True:
            try:
                await call_next(msg)
                return
            except Exception as error:
                if not is_outage(error):
                    raise
                log.warning("handler_waits_for_database", error=reason(error))
            await asyncio.sleep(OUTAGE_PAUSE)

    async def _retry(self, queue: str, msg: RabbitMessage, error: Exception) -> None:
        attempt, tiers = _attempt(msg), self._to.topology.tiers
        if self._is_dead(queue):
            attempt = min(attempt, len(tiers) - 1)
        if attempt >= len(tiers):
            await self._fail(queue, msg, error)
            return
        tier, _ = tiers[attempt]
        log.warning(
            "message_retried",
            tier=tier,
            attempt=attempt + 1,
            error_type=type(error).__name__,
            where=where(error),
        )
        metrics.retried.labels(queue, tier).inc()
        kept = _evidence(msg) if self._is_dead(queue) else {}
        await self._hand_over(msg, self._to.topology.retry(tier), queue, {**kept, "x-attempt": attempt + 1})

    async def _fail(self, queue: str, msg: RabbitMessage, error: Exception) -> None:
        if self._is_dead(queue):
            await self._retry(queue, msg, error)
            return
        kind, words = type(error).__name__, _words(error)
        log.error("message_failed", error_type=kind, where=where(error), attempts=_attempt(msg) + 1)
        metrics.failed.labels(queue, kind).inc()
        headers = {
            "x-queue": queue,
            "x-error-type": kind,
            "x-error": words[:4_000],
            "x-attempt": _attempt(msg) + 1,
            "x-failed-at": self._to.clock().isoformat(),
        }
        await self._hand_over(msg, self._to.topology.dead, queue, headers)

    async def _hand_over(
        self, msg: RabbitMessage, exchange: str, queue: str, headers: dict[str, Any]
    ) -> None:
        """Let another queue hold the message, and only then acknowledge it here."""
        raw = msg.raw_message
        entry = Outgoing(
            id=msg.message_id,
            type=raw.type or "",
            exchange=exchange,
            routing_key=queue,
            body=raw.body,
            message_id=identity(raw.message_id, raw.body),
            correlation_id=raw.correlation_id or "",
            content_type=raw.content_type or "application/octet-stream",
            headers=headers,
        )
        try:
            await self._to.publisher.publish(entry)
        except Exception as error:
            log.warning("message_returned_to_queue", error=repr(error)[:300])
            await asyncio.sleep(1)  # a full or absent retry queue must not become a hot loop
            await _settle(msg.nack(requeue=True))
            return
        await _acknowledge(msg)


def _words(error: Exception) -> str:
    """What went wrong, for operators. Not for logs: an error's own words may quote what it could not handle."""
    if isinstance(error, ValidationError):
        problems = error.errors(include_input=False, include_url=False, include_context=False)
        return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in problems)
    return f"{type(error).__name__}: {error}"


def identity(message_id: str | None, body: bytes) -> str:
    """A foreign message without an id would get a new one at each delivery; its content is its id."""
    return message_id or f"sha256-{hashlib.sha256(body).hexdigest()[:32]}"


def _evidence(msg: RabbitMessage) -> dict[str, Any]:
    """Why a message was dead-lettered, by our own headers or, where the broker did it, by its first `x-death`."""
    headers = {name: value for name, value in msg.headers.items() if name in EVIDENCE}
    deaths = msg.headers.get("x-death")
    if "x-queue" not in headers and isinstance(deaths, list) and deaths:
        death = deaths[0]
        headers["x-queue"] = str(death.get("queue", ""))
        headers["x-error-type"] = str(death.get("reason", ""))
        if isinstance(time := death.get("time"), datetime):
            headers["x-failed-at"] = (time if time.tzinfo else time.replace(tzinfo=UTC)).isoformat()
    return headers


def _attempt(msg: RabbitMessage) -> int:
    attempt = msg.headers.get("x-attempt", 0)
    return attempt if isinstance(attempt, int) else 0


async def _acknowledge(msg: RabbitMessage) -> None:
    await _settle(msg.ack())


async def _settle(answer: Any) -> None:
    """Tell the broker; where its channel has gone the message comes back, and is known by its id."""
    try:
        await answer
    except Exception as error:
        log.info("answer_lost_with_channel", error=type(error).__name__)


def failed_at(headers: dict[str, Any], clock: Clock) -> datetime:
    """When a dead-lettered message failed: our own header, or the broker's `x-death`."""
    try:
        return datetime.fromisoformat(str(headers["x-failed-at"]))
    except (KeyError, ValueError):
        deaths = headers.get("x-death")
        if isinstance(deaths, Sequence) and deaths and isinstance(deaths[0].get("time"), datetime):
            time: datetime = deaths[0]["time"]
            return time if time.tzinfo else time.replace(tzinfo=UTC)
        return clock()
