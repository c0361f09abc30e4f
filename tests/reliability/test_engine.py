"""The guarantees of the engine, each broken on purpose on the real broker and database."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deploy.local.servers import Tenant
from shared.contracts.intake import EnquiryReceived
from shared.store import Aggregates, Already, Cause, ClaimTaken, Incoming, outbox
from tests.conftest import eventually
from tests.reliability.engine_room import Counted, EngineRoom, Tally, count, engine_room, received


def an_event(id: str) -> EnquiryReceived:
    cause = Cause(id, id, id, datetime(2018, 9, 24, 9, tzinfo=UTC))
    return received(Counted(Tally()), cause)[0]


def bytes_of(event: EnquiryReceived) -> bytes:
    return event.model_dump_json(exclude_none=True).encode()


async def nothing_left(room: EngineRoom) -> None:
    depths: dict[str, int] = {}

    async def empty() -> bool:
        depths.update(await asyncio.to_thread(room.tenant.queue_depths))
        return not any(depths.values())

    await eventually(empty, what=f"queues empty: {depths}")


async def test_same_event_twice_is_taken_and_announced_once(tenant: Tenant) -> None:
    async with engine_room(tenant) as room, room.running("triage", "mentoring"):
        event = an_event("twice")
        for _ in range(3):
            await room.put(bytes_of(event), event.id)
        await room.put(bytes_of(an_event("after")), an_event("after").id)
        await eventually(lambda: len({heard.correlationid for heard in room.heard}) == 2)
        await nothing_left(room)
        tally = await room.kept["triage"].get("twice")
        assert tally is not None and tally.taken == 1
        assert len([heard for heard in room.heard if heard.correlationid == "twice"]) == 1


async def test_many_messages_for_one_aggregate_lose_no_update(tenant: Tenant) -> None:
    async with engine_room(tenant) as room, room.running("intake"):
        tallies = room.kept["intake"]
        await asyncio.gather(
            *(
                tallies.apply(Incoming(f"m{n}", "mail", "hot"), count, wait_published=False)
                for n in range(500)
            )
        )
        tally = await tallies.get("hot")
        assert tally is not None and tally.taken == 500


async def test_two_replicas_deciding_on_one_aggregate_lose_no_update(tenant: Tenant) -> None:
    async with engine_room(tenant) as first, engine_room(tenant) as second:
        async with first.running("intake"), second.running("intake"):
            replicas = [first.kept["intake"], second.kept["intake"]]
            await asyncio.gather(
                *(
                    replicas[n % 2].apply(Incoming(f"m{n}", "mail", "hot"), count, wait_published=False)
                    for n in range(300)
                )
            )
            tally = await replicas[0].get("hot")
            assert tally is not None and tally.taken == 300


async def test_an_event_written_before_a_crash_is_published_after_it(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "RELAY_GRACE", timedelta(0))
    async with engine_room(tenant) as room:
        async with room.running("intake"):
            # The process dies after the write and before the publish: nothing it says reaches the broker.
            room.kept["intake"].publish_with(Dead())
            await room.accept("orphan")
            assert await room.kept["intake"].outbox.lag() > 0
        assert not room.heard
        async with room.running("intake", "triage", "mentoring"):
            await eventually(lambda: [heard.correlationid for heard in room.heard] == ["orphan"])
            await eventually(lambda: _no_lag(room.kept["intake"]))
            await nothing_left(room)


async def _no_lag(aggregates: Aggregates[Tally, Counted]) -> bool:
    return await aggregates.outbox.lag() == 0


class Dead:
    async def publish(self, entry: object) -> None:
        raise ConnectionError("the process died here")


async def test_a_crash_between_publish_and_ack_does_nothing_twice(tenant: Tenant) -> None:
    async with engine_room(tenant) as room, room.running("triage", "mentoring"):
        deliveries = 0

        async def take_then_lose_the_channel(event: EnquiryReceived, tallies: Any) -> None:
            nonlocal deliveries
            deliveries += 1
            await tallies.apply(event, count)
            if deliveries == 1:
                channel = await room.channel("triage.enquiry-received")
                await channel.basic_ack(999_999)  # unknown, so the broker closes the channel at once

        room.handle = take_then_lose_the_channel
        event = an_event("unacked")
        await room.put(bytes_of(event), event.id)
        await eventually(lambda: deliveries >= 2, what="redelivered")
        await nothing_left(room)
        tally = await room.kept["triage"].get("unacked")
        assert tally is not None and tally.taken == 1
        assert len(room.heard) == 1


async def test_poison_message_ends_as_a_failed_message_and_takes_effect_once_replayed(tenant: Tenant) -> None:
    async with engine_room(tenant) as room, room.running("triage", "mentoring"):
        attempts = 0

        async def fail(event: EnquiryReceived, tallies: Any) -> None:
            nonlocal attempts
            attempts += 1
            raise RuntimeError("the handler has a fault")

        room.handle = fail
        event = an_event("poison")
        await room.put(bytes_of(event), event.id)
        async with room.client("triage") as client:

            async def failed() -> list[dict[str, Any]]:
                answer: list[dict[str, Any]] = (await client.get("/failed")).json()
                return answer

            await eventually(failed, what="kept as a failed message")
            [message] = await failed()
            assert attempts == 3, "once, and once for each retry tier"
            assert message["error_type"] == "RuntimeError" and "has a fault" in message["error"]
            assert json.loads(message["body"])["id"] == event.id
            await nothing_left(room)

            room.handle = None  # the fault is mended
            reply = await client.post(f"/failed/{message['id']}/replay", json={"operator": "Ada"})
            assert reply.status_code == 200
            await eventually(lambda: len(room.heard) == 1)
            again = await client.post(f"/failed/{message['id']}/replay", json={"operator": "Ada"})
            assert again.status_code == 409, "replayed once, not open any more"
            assert await failed() == []


@pytest.mark.parametrize(
    "body", [b"", b"not json", b"\xff\xfe", b"[]", b'{"type":"something.else.v1"}', b'{"id": 3}']
)
async def test_body_that_is_no_event_is_kept_without_retry_and_can_be_discarded(
    tenant: Tenant, body: bytes
) -> None:
    async with engine_room(tenant) as room, room.running("triage"):
        await room.put(body)
        async with room.client("triage") as client:

            async def failed() -> Any:
                return (await client.get("/failed")).json()

            await eventually(failed)
            [message] = await failed()
            assert message["body"] == body.decode("utf-8", "replace")
            assert message["times"] == 1
            refused = await client.post(f"/failed/{message['id']}/discard", json={"operator": "Ada"})
            assert refused.status_code == 422, "a discard needs a reason"
            decision = {"operator": "Ada", "reason": "not one of our events"}
            assert (await client.post(f"/failed/{message['id']}/discard", json=decision)).status_code == 200
            assert await failed() == []
        await nothing_left(room)


async def test_a_claim_is_held_by_one_aggregate_only(tenant: Tenant) -> None:
    async with engine_room(tenant) as room, room.running("intake"):
        tallies = room.kept["intake"]

        async def ask(n: int) -> object:
            try:
                return await tallies.apply(
                    Incoming(f"m{n}", "mail", f"a{n}"),
                    lambda _: Counted(Tally(claim="slot")),
                    wait_published=False,
                )
            except ClaimTaken as taken:
                return taken

        answers = await asyncio.gather(*(ask(n) for n in range(50)))
        assert len([answer for answer in answers if isinstance(answer, Counted)]) == 1
        assert len([answer for answer in answers if isinstance(answer, ClaimTaken)]) == 49
        assert await tallies.claimed([("slot", "slou")]) == {"slot"}


async def test_a_decision_that_fails_does_not_hold_up_its_group(tenant: Tenant) -> None:
    async with engine_room(tenant) as room, room.running("intake"):
        tallies = room.kept["intake"]

        def refuse(_: Tally | None) -> Counted:
            raise ValueError("no")

        def unstorable(_: Tally | None) -> Counted:
            return Counted(Tally(claim="\udcff"))  # BSON cannot hold a lone surrogate

        answers = await asyncio.gather(
            tallies.apply(Incoming("a", "mail", "a"), count, wait_published=False),
            tallies.apply(Incoming("b", "mail", "b"), refuse, wait_published=False),
            tallies.apply(Incoming("c", "mail", "c"), unstorable, wait_published=False),
            tallies.apply(Incoming("d", "mail", "d"), count, wait_published=False),
            return_exceptions=True,
        )
        assert [type(answer).__name__ for answer in answers] == [
            "Counted",
            "ValueError",
            "UnicodeEncodeError",
            "Counted",
        ]


async def test_a_message_taken_before_is_answered_with_the_state_as_it_is(tenant: Tenant) -> None:
    async with engine_room(tenant) as room, room.running("intake"):
        await room.accept("once")
        answer = await room.kept["intake"].apply(Incoming("once", "mail", "once"), count)
        assert answer == Already(Tally(taken=1))


async def test_every_query_of_a_hot_path_uses_an_index(tenant: Tenant) -> None:
    async with engine_room(tenant) as room, room.running("intake"):
        for n in range(20):
            await room.accept(f"e{n}")
        collection = room.kept["intake"]._collection
        now = datetime.now(UTC)
        queries: list[dict[str, Any]] = [
            {"_id": {"$in": ["e1", "e2"]}},
            {"correlation": "e1"},
            {"outbox_since": {"$lte": now}, "$or": [{"relay_lease": {"$exists": False}}]},
            {"claims": {"$elemMatch": {"$gte": "a", "$lt": "b"}}},
        ]
        for query in queries:
            plan = await collection.find(query).explain()
            assert "COLLSCAN" not in json.dumps(plan["queryPlanner"]["winningPlan"]), query
