"""Exchanges, queues and bindings, as data; declared once by an administrator before any service starts.

A service may declare nothing: were a publisher started before its consumers' queues exist, its first events
would reach nobody. For each service:

    <service>            topic exchange: the events it says, routing key = event type
    <service>.<fact>     quorum queue: one consumer and event family, bound to the publisher's exchange
    <service>.retry.5s   quorum queue (and fanout exchange) with one fixed time to live, which returns
                         messages through `<service>.return`; a per-message TTL would block behind longer ones
    <service>.return     direct exchange: routing key = name of the work queue
    <service>.dead       quorum queue (and fanout exchange) drained into the service's failed messages

and for those outside, queues that get copies of what a service says. Every other name begins with the service's, so
that one regular expression gives it its own and nothing else.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import aio_pika
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import ConnectionInternalError
from pamqp.common import FieldTable

from shared.messaging.hears import Hears

RETRY_TIERS: tuple[tuple[str, int], ...] = (("5s", 5_000), ("30s", 30_000), ("5m", 300_000))
"""Name and milliseconds of each wait; a message out of tiers is a failed message."""

QUEUE_LIMIT = 200_000
OUTSIDE_LIMIT = 10_000
DECLARE_ATTEMPTS = 5
CRASH_GUARD = 20
"""Deliveries without an answer before the broker itself dead-letters; restarts count, so it is no retry counter."""


@dataclass(frozen=True, slots=True)
class Topology:
    """Everything one service needs on the broker. `queues` pairs a queue with (exchange, routing key);
    `outside` pairs a queue that is not ours to read with the key of what it gets of this service's events."""

    service: str
    queues: tuple[tuple[str, str, str], ...]
    tiers: tuple[tuple[str, int], ...] = RETRY_TIERS
    outside: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, hears: Hears, tiers: Sequence[tuple[str, int]] = RETRY_TIERS) -> "Topology":
        queues = tuple((s.queue, s.kind.publisher(), s.kind.binding_key()) for s in hears.subscriptions)
        return cls(hears.service, queues, tuple(tiers))

    @property
    def dead(self) -> str:
        return f"{self.service}.dead"

    @property
    def back(self) -> str:
        return f"{self.service}.return"

    def retry(self, tier: str) -> str:
        return f"{self.service}.retry.{tier}"

    def arguments(self, dead_letter_to: str | None, ttl: int | None = None) -> FieldTable:
        """A quorum queue's arguments.

        At-least-once dead lettering needs `reject-publish`: a full queue pushes back on its publisher, whose
        outbox keeps the event.
        """
        arguments: FieldTable = {
            "x-queue-type": "quorum",
            "x-overflow": "reject-publish",
            "x-max-length": QUEUE_LIMIT,
            "x-delivery-limit": CRASH_GUARD,
        }
        if dead_letter_to:
            arguments["x-dead-letter-exchange"] = dead_letter_to
            arguments["x-dead-letter-strategy"] = "at-least-once"
        if ttl:
            arguments["x-message-ttl"] = ttl
        return arguments

    async def _declare(self, channel: AbstractChannel) -> None:
        exchange, queue = channel.declare_exchange, channel.declare_queue
        back = await exchange(self.back, "direct", durable=True)
        # The dead-letter queue first: what is dead-lettered before it exists waits minutes for it.
        dead = await queue(
            self.dead, durable=True, arguments=self.arguments(None) | {"x-delivery-limit": 1_000_000}
        )
        await dead.bind(await exchange(self.dead, "fanout", durable=True))
        await dead.bind(back, self.dead)  # a dead letter that can not be kept at once waits in a tier as well
        for tier, milliseconds in self.tiers:
            waiting = await queue(
                self.retry(tier), durable=True, arguments=self.arguments(self.back, milliseconds)
            )
            await waiting.bind(await exchange(self.retry(tier), "fanout", durable=True))
        for name, publisher, routing_key in self.queues:
            work = await queue(name, durable=True, arguments=self.arguments(self.dead))
            await work.bind(back, name)
            await work.bind(publisher, routing_key)
        for name, routing_key in self.outside:
            # Whoever does not read it must not be able to hold us up: when it is full the oldest go.
            copies = await queue(
                name,
                durable=True,
                arguments={
                    "x-queue-type": "quorum",
                    "x-overflow": "drop-head",
                    "x-max-length": OUTSIDE_LIMIT,
                },
            )
            await copies.bind(self.service, routing_key)


async def declare(url: str, topologies: Iterable[Topology]) -> None:
    """Declare it all, over one connection with the administrator's credentials. Doing it again changes nothing.

    Raises `aio_pika.exceptions.ChannelPreconditionFailed` where a queue exists with other arguments.
    """
    topologies = list(topologies)
    for attempt in range(1, DECLARE_ATTEMPTS + 1):
        try:
            await _declare_all(url, topologies)
            return
        except ConnectionInternalError:
            # A broker that is too busy to elect a quorum queue's leader in time says this and hangs up.
            if attempt == DECLARE_ATTEMPTS:
                raise
        await asyncio.sleep(attempt)


async def _declare_all(url: str, topologies: Sequence[Topology]) -> None:
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        for topology in topologies:
            await channel.declare_exchange(topology.service, "topic", durable=True)
        for topology in topologies:
            await topology._declare(channel)
