"""Messages twice, in any order and by several hands, and a mail server that misbehaves: a day's work."""

import time

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from tests.conftest import eventually
from tests.reliability.pipeline_run import CONNECTIONS, Run, dice, everything_exactly_once, senders


def again(message: AbstractIncomingMessage, **headers: str) -> aio_pika.Message:
    return aio_pika.Message(
        message.body,
        message_id=message.message_id,
        correlation_id=message.correlation_id,
        type=message.type,
        content_type=message.content_type,
        headers={**message.headers, **headers},
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )


async def test_every_event_delivered_three_times_takes_effect_once(run: Run) -> None:
    heard: list[AbstractIncomingMessage] = []
    async with run.broker() as channel:
        spy = await channel.declare_queue(exclusive=True)
        exchanges = {name: await channel.get_exchange(name) for name in ("intake", "triage", "mentoring")}
        for exchange in exchanges.values():
            await spy.bind(exchange, "#")

        async def repeat(message: AbstractIncomingMessage) -> None:
            if "x-again" not in message.headers:
                heard.append(message)
                # While the first is still in somebody's hands.
                await exchanges[message.exchange or ""].publish(
                    again(message, **{"x-again": "yes"}), message.routing_key or ""
                )

        await spy.consume(repeat, no_ack=True)
        await run.load(100, rate=60, tag="twice")
        await everything_exactly_once(run)
        assert len(heard) > 200, "an event of intake and one of triage for each enquiry"

        shuffled = list(heard)
        dice().shuffle(shuffled)
        for message in shuffled:
            await exchanges[message.exchange or ""].publish(
                again(message, **{"x-again": "yes"}), message.routing_key or ""
            )
    await everything_exactly_once(run)


async def test_messages_in_any_order_have_the_same_effect(run: Run) -> None:
    order = dice()

    async def shuffle(*queues: str) -> None:
        async with run.broker() as channel:
            for name in queues:
                queue = await channel.get_queue(name)
                held = []
                while (message := await queue.get(fail=False)) is not None:
                    held.append(message)
                order.shuffle(held)
                for message in held:
                    await channel.default_exchange.publish(again(message), name)
                    await message.ack()

    async def waiting(*queues: str) -> int:
        depths = await run.depths()
        return sum(depths.get(queue, 0) for queue in queues)

    async def all_held_back() -> bool:
        return await waiting("triage.enquiry-received", "notifications.enquiry-received") == 200

    async def all_decided() -> bool:
        return await waiting("notifications.enquiry-routed", "notifications.enquiry-held") == 100

    await run.kill("notifications")
    await run.kill("triage")
    await run.load(100, rate=200, tag="order")
    await eventually(all_held_back, 30, "every enquiry waits for triage and notifications")
    await shuffle("triage.enquiry-received", "notifications.enquiry-received")
    await run.start("triage")
    await eventually(all_decided, 60, "triage has decided about every enquiry")
    await shuffle(
        "notifications.enquiry-routed", "notifications.enquiry-held", "notifications.enquiry-received"
    )
    await run.start("notifications")
    await run.ready()
    await everything_exactly_once(run)


async def test_mail_put_off_by_the_server_is_sent_once_it_takes_mail_again(run: Run) -> None:
    run.sink.busy_until = time.monotonic() + 5
    await run.load(100, rate=60, tag="busy")
    assert run.count("notifications", "notifications", {"state.attempts.outcome": "deferred"}) > 20
    await everything_exactly_once(run)


async def test_mail_cut_off_after_it_was_taken_comes_again_under_the_same_message_id(run: Run) -> None:
    cuts = 15
    async with run.flow(rate=60, tag="kept", at_least=100):
        await run.more_accepted(20)
        run.sink.drop_keeps, run.sink.drops = True, cuts
        await eventually(lambda: not run.sink.drops)
    doubled = await everything_exactly_once(run, doubled_mails=cuts)
    assert doubled == cuts, "each cut is a mail that nobody could know was taken"


async def test_mail_cut_off_before_it_was_taken_comes_once(run: Run) -> None:
    async with run.flow(rate=60, tag="lost", at_least=100):
        await run.more_accepted(20)
        run.sink.drop_keeps, run.sink.drops = False, 15
        await eventually(lambda: not run.sink.drops)
    await everything_exactly_once(run)


async def test_mail_server_that_crashes_and_comes_back_misses_nothing(run: Run) -> None:
    async with run.flow(rate=60, tag="crash", at_least=100):
        await run.more_accepted(20)
        await run.sink.stop()
        await run.more_accepted(30)
        await run.sink.start()
    # A server that crashes may have kept a mail on each connection without having said so.
    await everything_exactly_once(run, doubled_mails=CONNECTIONS)


async def test_mail_refused_for_good_is_failed_with_the_servers_words_and_not_tried_again(run: Run) -> None:
    refused = senders(10, tag="gone")
    run.undeliverable.update(refused)
    run.sink.refused |= dict.fromkeys(refused, "550 5.1.1 No such mailbox")
    await run.load(40, rate=60, tag="gone")
    await everything_exactly_once(run)
    failed = [
        document["state"]
        for document in run.documents("notifications", "notifications")
        if document["state"]["status"] == "failed"
    ]
    assert {notification["recipient"]["address"] for notification in failed} <= set(refused)
    assert len(failed) >= 8, "all of them, but those who asked for no automatic answer"
    for notification in failed:
        assert notification["attempts_made"] == 1
        assert "550" in notification["failed_because"] and "No such mailbox" in notification["failed_because"]


async def test_two_replicas_of_a_service_share_the_work_and_double_nothing(run: Run) -> None:
    async with run.replica("triage") as triage, run.replica("notifications") as notifications:
        await run.load(150, rate=100, tag="pair")
        await everything_exactly_once(run)
        for process in (triage, run.service("triage"), notifications, run.service("notifications")):
            assert await run.decisions(process) > 0, f"{process.name} on port {process.port} did nothing"
