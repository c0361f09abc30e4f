"""Opens channels again that the client library has given up on.

aio-pika (10.2) restores a channel once after the broker has closed it. Where that fails, because an exchange
was missing for a moment or the broker did not answer, it leaves the channel closed for as long as the
connection lasts: a service that looks well, publishes nothing and hears nothing.
"""

import asyncio
from collections.abc import Iterator

import structlog
from aio_pika.abc import AbstractRobustChannel
from faststream.rabbit import RabbitBroker

log = structlog.get_logger()

LOOK_SECONDS = 1.0
MEND_SECONDS = 10.0


async def mend_channels(broker: RabbitBroker) -> None:
    """Look after every channel of the broker, for ever."""
    closed: set[AbstractRobustChannel] = set()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        connection = broker._connection
        if connection is None or not connection.connected.is_set():
            closed = set()  # all are restored with the connection
            continue
        found = {channel for channel in _channels(broker) if channel.is_closed}
        for channel in found & closed:  # at two looks: not one that is being restored just now
            await _mend(channel)
        closed = found


def _channels(broker: RabbitBroker) -> Iterator[AbstractRobustChannel]:
    if broker._channel is not None:
        yield broker._channel
    for subscriber in broker.subscribers:
        queue = getattr(subscriber, "_queue_obj", None)
        if queue is not None:
            yield queue.channel


async def _mend(channel: AbstractRobustChannel) -> None:
    try:
        async with asyncio.timeout(MEND_SECONDS):
            await channel.restore()
            if channel.is_closed:
                # It takes a channel closed again while it was being restored for one that has been restored.
                await channel.reopen()
    except Exception as error:
        log.warning("channel_not_mended", error=type(error).__name__)
    else:
        log.info("channel_mended")
