"""The only place that publishes: persistent, mandatory, confirmed, bounded in time."""

import asyncio
from time import perf_counter

import aio_pika
from aio_pika.abc import DeliveryMode
from faststream.rabbit import RabbitBroker, RabbitExchange

from shared import metrics
from shared.store.cause import Outgoing

CONFIRM_SECONDS = 10.0
IN_FLIGHT = 500


class BrokerPublisher:
    """Publishes outbox entries with pipelined confirms."""

    def __init__(self, broker: RabbitBroker) -> None:
        self._broker = broker
        self._exchanges: dict[str, RabbitExchange] = {}
        self._room = asyncio.Semaphore(IN_FLIGHT)

    async def publish(self, entry: Outgoing) -> None:
        """Return once the broker has confirmed that a queue holds the message.

        Raises whatever went wrong: unroutable (no queue is bound), refused (a queue is full), no confirm in
        time. FastStream's own timeout does not bound a publish under a memory alarm, so `asyncio.timeout`
        does; a publish given up so may still arrive, which consumers tell by its id. A channel that closes
        under a publish cancels it from within; that is a `ConnectionError`, not a wish of the caller's.
        """
        message = aio_pika.Message(
            entry.body,
            message_id=entry.message_id,
            correlation_id=entry.correlation_id,
            type=entry.type,
            content_type=entry.content_type,
            headers=entry.headers,
            delivery_mode=DeliveryMode.PERSISTENT,
        )
        exchange = self._exchanges.get(entry.exchange)
        if exchange is None:
            exchange = self._exchanges[entry.exchange] = RabbitExchange(entry.exchange, declare=False)
        try:
            async with asyncio.timeout(CONFIRM_SECONDS), self._room:
                started = perf_counter()
                await self._broker.publish(
                    message, exchange=exchange, routing_key=entry.routing_key, mandatory=True, persist=True
                )
                metrics.publish_seconds.observe(perf_counter() - started)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise ConnectionError("the channel closed before the broker's confirm") from None
