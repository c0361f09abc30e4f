"""The broker and the database go away under load, in good order and without a word, and come back."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from deploy.topology import topologies
from shared.messaging.topology import declare
from tests.conftest import eventually
from tests.reliability.pipeline_run import Run, everything_exactly_once

AWAY_SECONDS = 20
QUEUES = [queue for topology in topologies() for queue, *_ in topology.queues] + [
    topology.dead for topology in topologies()
]


async def everybody_listens(run: Run) -> None:
    """Every queue that somebody takes messages from has its consumer."""
    deaf: list[str] = []

    async def none_deaf() -> bool:
        async with run.broker() as channel:
            found = [await channel.declare_queue(name, passive=True) for name in QUEUES]
        deaf[:] = [queue.name for queue in found if not queue.declaration_result.consumer_count]
        return not deaf

    try:
        await eventually(none_deaf, 30)
    except AssertionError:
        raise AssertionError(f"nobody listens to {deaf}\n{run.log_of()}") from None


async def test_database_away_for_twenty_seconds_under_load_loses_and_doubles_nothing(run: Run) -> None:
    async with run.flow(rate=25, tag="away", at_least=120):
        await run.more_accepted(30)
        run.sink.slow = 2.0  # so that mails are being handed over when there is no database to record it in
        await run.more_accepted(20)
        await asyncio.to_thread(run.servers.mongodb.stop)
        run.sink.slow = 0.0
        accepted, put_off = len(run.accepted), run.put_off["451"]
        await asyncio.sleep(AWAY_SECONDS)  # not a wait for something: the length of the outage
        assert run.put_off["451"] > put_off, "intake says that it cannot store it now"
        assert len(run.accepted) == accepted, "and never yes without having stored it"
        await asyncio.to_thread(run.servers.mongodb.start)
        await run.more_accepted(30)
    await everything_exactly_once(run)


async def test_database_killed_twice_under_load_loses_and_doubles_nothing(run: Run) -> None:
    async with run.flow(rate=25, tag="dbkill", at_least=100):
        for _ in range(2):
            await run.more_accepted(30)
            await asyncio.to_thread(run.servers.mongodb.kill)
            await asyncio.to_thread(run.servers.mongodb.start)
        await run.more_accepted(20)
    await everything_exactly_once(run)


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_broker_restarted_under_load_loses_and_doubles_nothing(run: Run, end: str) -> None:
    async with run.flow(rate=25, tag=f"broker-{end}", at_least=100):
        await run.more_accepted(30)
        await asyncio.to_thread(getattr(run.servers.rabbitmq, end))
        await run.more_accepted(20)  # intake needs no broker to say yes
        await asyncio.to_thread(run.servers.rabbitmq.start)
        await run.more_accepted(20)
    await everybody_listens(run)
    await everything_exactly_once(run)


async def test_connections_dropped_again_and_again_under_load_lose_and_double_nothing(run: Run) -> None:
    broker: Callable[..., Any] = run.servers.rabbitmq._call

    async def ours() -> list[str]:
        found = await asyncio.to_thread(broker, "GET", "connections")
        users = {run.tenant.broker_user(name) for name in run.pipeline.services}
        return [each["name"] for each in found if each["vhost"] == run.tenant.name and each["user"] in users]

    dropped: set[str] = set()
    connected: list[str] = []

    async def all_connected() -> bool:
        connected[:] = [name for name in await ours() if name not in dropped]
        return len(connected) >= len(run.pipeline.services)

    async with run.flow(rate=20, tag="drop", at_least=100):
        for _ in range(3):
            await eventually(all_connected, 30, "every service is connected")
            for name in connected:
                await asyncio.to_thread(broker, "DELETE", "connections", name, missing_is_fine=True)
            dropped |= set(connected)
            await run.more_accepted(10)
    await everybody_listens(run)
    await everything_exactly_once(run)


async def test_publishing_goes_on_once_a_missing_exchange_is_there_again(run: Run) -> None:
    """A publish to an exchange that is not there makes the broker close the channel."""
    async with run.broker() as channel:
        await channel.exchange_delete("intake")
        await channel.exchange_delete("triage")
    await run.load(40, rate=60, tag="astray")
    assert run.unpublished().get("intake.messages"), "they wait in the outbox"
    await declare(run.tenant.admin_amqp_url, topologies())
    await everything_exactly_once(run)


async def test_consumers_come_back_once_their_missing_queues_are_there_again(run: Run) -> None:
    await everything_exactly_once(run)
    async with run.broker() as channel:
        for name in QUEUES:
            await channel.queue_delete(name)
    # Consumers have been told, and look in vain for their queues, as after a broker that starts empty.
    await asyncio.sleep(3)
    await declare(run.tenant.admin_amqp_url, topologies())
    await everybody_listens(run)
    await run.load(40, rate=60, tag="back")
    await everything_exactly_once(run)
