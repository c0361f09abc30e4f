"""The engine's edges: what a review of it suspected, each shown on the real broker and database."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from gridfs.asynchronous import AsyncGridFSBucket
from pymongo import AsyncMongoClient

from deploy.local.process import free_port
from deploy.local.servers import Servers, Tenant
from shared import service, supervise
from shared.messaging import delivery
from shared.store import Aggregates, ClaimTaken, Incoming, aggregates, database, leases, outbox
from tests.conftest import eventually
from tests.reliability.engine_room import Counted, Tally, count, engine_room, stoppable
from tests.reliability.test_engine import an_event, bytes_of, nothing_left

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def servers(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers that may be stopped: those given by URL are not ours to."""
    yield from stoppable(servers, tmp_path_factory.mktemp("own-servers"))


class NothingThere(Exception):
    """A decision refuses because the aggregate is not there, or not as it should be."""


def must_exist(tally: Tally | None) -> Counted:
    if tally is None:
        raise NothingThere
    return count(tally)


def claiming(claim: str) -> Callable[[Tally | None], Counted]:
    return lambda tally: Counted(Tally(taken=(tally.taken if tally else 0) + 1, claim=claim))


# Decisions on what may not be so


async def test_an_own_claim_is_never_taken_for_somebody_elses(tenant: Tenant) -> None:
    async with engine_room(tenant) as first, engine_room(tenant) as second:
        async with first.running("intake"), second.running("intake"):
            replicas = [first.kept["intake"], second.kept["intake"]]
            answers = await asyncio.gather(
                *(
                    replicas[n % 2].apply(
                        Incoming(f"m{n}", "mail", "one"),
                        claiming("mine"),
                        wait_published=False,
                        opens=n % 3 == 0,
                    )
                    for n in range(200)
                ),
                return_exceptions=True,
            )
            assert {type(answer) for answer in answers} == {Counted}
            tally = await replicas[0].get("one")
            assert tally is not None and tally.taken == 200


async def test_a_decision_that_refuses_before_the_database_was_asked_is_made_again(tenant: Tenant) -> None:
    async with engine_room(tenant) as room, room.running("intake"):
        tallies = room.kept["intake"]
        await room.accept("there")
        answer = await tallies.apply(
            Incoming("second", "mail", "there"), must_exist, opens=True, wait_published=False
        )
        assert answer == Counted(Tally(taken=2))
        with pytest.raises(NothingThere):
            await tallies.apply(Incoming("x", "mail", "absent"), must_exist, opens=True, wait_published=False)


async def test_a_decision_on_a_remembered_document_is_made_again_where_another_replica_changed_it(
    tenant: Tenant,
) -> None:
    async with engine_room(tenant) as first, engine_room(tenant) as second:
        async with first.running("intake"), second.running("intake"):
            here, there = first.kept["intake"], second.kept["intake"]
            here._remember = 10
            await first.accept("shared")
            await there.apply(Incoming("elsewhere", "mail", "shared"), count, wait_published=False)

            def only_the_second(tally: Tally | None) -> Counted:
                if tally is None or tally.taken != 2:
                    raise NothingThere
                return count(tally)

            def leave(tally: Tally | None) -> Counted:
                assert tally is not None
                return Counted(tally)

            unchanged = await here.apply(Incoming("look", "mail", "shared"), leave, wait_published=False)
            assert unchanged.state.taken in {1, 2}
            answer = await here.apply(
                Incoming("third", "mail", "shared"), only_the_second, wait_published=False
            )
            assert answer == Counted(Tally(taken=3))


async def test_a_decision_is_not_refused_because_of_a_change_that_was_never_written(tenant: Tenant) -> None:
    async with engine_room(tenant) as room, room.running("intake"):
        tallies = room.kept["intake"]
        await tallies.apply(Incoming("holder", "mail", "holder"), claiming("slot"), wait_published=False)

        def only_the_first(tally: Tally | None) -> Counted:
            if tally is not None:
                raise NothingThere
            return count(tally)

        clash, other = await asyncio.gather(
            tallies.apply(Incoming("a", "mail", "both"), claiming("slot"), wait_published=False),
            tallies.apply(Incoming("b", "mail", "both"), only_the_first, wait_published=False),
            return_exceptions=True,
        )
        assert isinstance(clash, ClaimTaken)
        assert other == Counted(Tally(taken=1)), "its neighbour's clash is not its own"


# Loops that one bad document must not stop


async def test_a_due_aggregate_that_fails_does_not_hold_up_those_after_it(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregates, "SWEEP_SECONDS", 0.05)
    called: list[str] = []

    async def on_due(tally: Tally, until: datetime) -> None:
        called.append(tally.claim)
        if tally.claim == "0":
            raise RuntimeError("this one always fails")

    async with engine_room(tenant) as room:
        app = room.build("intake")
        store = room.services["intake"].store
        start = datetime(2018, 9, 24, 9, tzinfo=UTC)
        timed: Aggregates[Tally, Counted] = store.aggregates(
            "timed", Tally, lambda *_: [], due=lambda tally: start + timedelta(seconds=int(tally.claim))
        )
        store.on_due("timed", on_due, timedelta(hours=1))
        async with app.router.lifespan_context(app):
            for n in (0, 1, 2):
                await timed.apply(Incoming(f"m{n}", "mail", f"t{n}"), claiming(str(n)), wait_published=False)
            await eventually(lambda: {"0", "1", "2"} <= set(called), 5, "those after the failing one")


async def test_an_outbox_entry_of_a_newer_version_neither_stops_the_relay_nor_the_stop(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "RELAY_GRACE", timedelta(0))
    async with engine_room(tenant) as room, room.running("intake", "triage", "mentoring"):
        tallies = room.kept["intake"]
        tallies.publish_with(Away())
        await room.accept("newer")
        await tallies._collection.update_one({"_id": "newer"}, {"$set": {"outbox.0.added_later": 1}})
        tallies.publish_with(room.services["intake"].publisher)
        await eventually(lambda: [heard.correlationid for heard in room.heard] == ["newer"])
        await eventually(lambda: not tallies.outbox.busy)


class Away:
    """A broker that is not there."""

    async def publish(self, entry: object) -> None:
        raise ConnectionError("away")


async def test_what_a_later_clock_wrote_is_relayed_after_the_clock_was_set_back(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "RELAY_GRACE", timedelta(0))
    async with engine_room(tenant) as room:
        async with room.running("intake"):
            tallies = room.kept["intake"]
            tallies.publish_with(Away())
            now = tallies._clock
            tallies._clock = lambda: now() + timedelta(days=30)
            await room.accept("from-the-future")
        async with room.running("intake", "triage", "mentoring"):
            await eventually(lambda: [heard.correlationid for heard in room.heard] == ["from-the-future"], 10)
            assert room.heard[0].time > datetime.now(UTC) - timedelta(days=1)


# Bounds


async def test_a_long_absence_of_the_broker_fills_no_memory_and_loses_nothing(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "RELAY_GRACE", timedelta(0))
    monkeypatch.setattr(outbox, "RELAY_LEASE", timedelta(seconds=1))
    monkeypatch.setattr(outbox, "PUBLISHING_LIMIT", 50)
    monkeypatch.setattr(leases, "SWEEP_LIMIT", 50)
    monkeypatch.setattr(outbox, "SWEEP_LIMIT", 50)
    back = asyncio.Event()

    class Hanging:
        async def publish(self, entry: Any) -> None:
            await back.wait()
            await real.publish(entry)

    async with engine_room(tenant) as room, room.running("intake", "triage", "mentoring"):
        tallies, real = room.kept["intake"], room.services["intake"].publisher
        tallies.publish_with(Hanging())
        await asyncio.gather(*(room.accept(f"e{n}") for n in range(400)))
        assert len(tallies.outbox._background) <= 50
        back.set()
        await eventually(
            lambda: {heard.correlationid for heard in room.heard} == {f"e{n}" for n in range(400)}, 30
        )
        await nothing_left(room)


async def test_a_flush_waits_for_a_write_under_way(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    async with engine_room(tenant) as room, room.running("intake"):
        tallies = room.kept["intake"]
        under_way, may_end = asyncio.Event(), asyncio.Event()
        write = tallies._collection.bulk_write

        class Slow:
            def __getattr__(self, name: str) -> Any:
                return getattr(collection, name)

            async def bulk_write(self, *given: Any, **named: Any) -> Any:
                under_way.set()
                await may_end.wait()
                return await write(*given, **named)

        collection = tallies._collection
        monkeypatch.setattr(tallies, "_collection", Slow())
        applied = asyncio.create_task(room.accept("slow"))
        await under_way.wait()
        flushed = asyncio.create_task(tallies.flush())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(flushed), 0.3)
        may_end.set()
        await asyncio.wait_for(flushed, 5)
        assert applied.done()


async def test_a_stop_is_bounded_while_the_database_is_away(tenant: Tenant, servers: Servers) -> None:
    async with engine_room(tenant) as room:
        app = room.build("triage")
        loop = asyncio.get_running_loop()
        try:
            async with app.router.lifespan_context(app):
                await asyncio.to_thread(servers.mongodb.stop)
                event = an_event("stuck")
                await room.put(bytes_of(event), event.id)
                await eventually(
                    lambda: any(each.lock.qsize for each in room.services["triage"].broker.subscribers)
                )
                began = loop.time()
            assert loop.time() - began < 5 + 5, "stop_within is 5 seconds, whatever hangs"
        finally:
            await asyncio.to_thread(servers.mongodb.start)
        async with room.running("triage", "mentoring"):
            await eventually(lambda: [heard.correlationid for heard in room.heard] == ["stuck"], 30)


@pytest.mark.parametrize("ticks", range(5))
async def test_a_loop_that_is_stopped_just_as_it_wakes_is_stopped(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, ticks: int
) -> None:
    async def nothing(_: object) -> None: ...

    async with engine_room(tenant) as room:
        room.build("intake")
        tallies = room.kept["intake"]
        tallies.outbox._to_clear["published"] = ["earlier"]
        monkeypatch.setattr(tallies, "_commit_through_outages", nothing)
        loop = asyncio.create_task(tallies.run_commits())
        for _ in range(5):
            await asyncio.sleep(0)
        tallies._wake.set()
        for _ in range(ticks):
            await asyncio.sleep(0)
        loop.cancel()
        done, _ = await asyncio.wait([loop], timeout=1)
        loop.cancel()
        assert done, "the cancellation was swallowed"
        await room.services["intake"].store.stop()


def test_a_service_that_waits_for_its_servers_stops_when_asked(tmp_path: Path) -> None:
    nobody = free_port()
    environment = {
        **os.environ,
        "TRIAGE_RABBITMQ_URL": f"amqp://a:secret-of-broker@127.0.0.1:{nobody}/x",
        "TRIAGE_MONGODB_URL": f"mongodb://a:secret-of-database@127.0.0.1:{nobody}/x",
        "TRIAGE_OPERATOR_TOKEN": "secret-of-operators",
        "TRIAGE_HTTP_PORT": "0",
        "TRIAGE_LOG_FORMAT": "json",
        "TRIAGE_PROGRAMME": str(ROOT / "deploy/programme/programme.yaml"),
        "TRIAGE_PUBLIC_URL": "http://127.0.0.1",
        "TRIAGE_LINK_KEYS": '["secret-of-links"]',
    }
    with subprocess.Popen(
        [sys.executable, "-m", "services.triage.app"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if "waiting_for_database" in line:
                break
        process.send_signal(signal.SIGTERM)
        try:
            said += process.communicate(timeout=6)[0]
        finally:
            process.kill()
    assert "waiting_for_database" in said
    assert "secret-of" not in said


# The broker's ways of failing


async def test_a_consumer_comes_back_after_the_broker_closed_its_channel(tenant: Tenant) -> None:
    async with engine_room(tenant) as room, room.running("triage", "mentoring"):
        channel = await room.channel("triage.enquiry-received")
        await channel.basic_ack(
            999_999
        )  # unknown: the broker closes the channel, as it does for late answers
        await eventually(lambda: channel.is_closed)
        event = an_event("after")
        await room.put(bytes_of(event), event.id)
        await eventually(lambda: [heard.correlationid for heard in room.heard] == ["after"])
        await nothing_left(room)


async def test_a_retry_whose_publish_is_cancelled_from_within_is_not_left_in_hand(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine_room(tenant) as room, room.running("triage", "mentoring"):
        broker = room.services["triage"].broker
        publish, cancelled = broker.publish, 0

        async def frozen_once(*given: Any, **named: Any) -> Any:
            nonlocal cancelled
            if not cancelled:
                cancelled += 1
                raise asyncio.CancelledError  # as a closed channel rejects a publish that waits for its confirm
            return await publish(*given, **named)

        monkeypatch.setattr(broker, "publish", frozen_once)
        failures = 0

        async def fail_once(event: Any, tallies: Any) -> None:
            nonlocal failures
            if not failures:
                failures += 1
                raise RuntimeError("once")
            await tallies.apply(event, count)

        room.handle = fail_once
        event = an_event("in-hand")
        await room.put(bytes_of(event), event.id)
        await eventually(lambda: [heard.correlationid for heard in room.heard] == ["in-hand"])
        await nothing_left(room)


async def test_a_dead_letter_that_can_not_be_kept_at_once_is_kept_later(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine_room(tenant) as room, room.running("triage"):
        failed = room.services["triage"].failed
        drain, tries = failed.drain, 0

        async def fails_at_first(message: Any) -> None:
            nonlocal tries
            tries += 1
            if tries <= 5:
                raise RuntimeError("cannot be kept")
            await drain(message)

        monkeypatch.setattr(failed, "drain", fails_at_first)
        await room.put(b"not json")
        await eventually(failed.open, 20, "kept in the end")
        assert tries == 6, "each try waited in a retry tier"
        [(_, message)] = await failed.open()
        assert message.queue == "triage.enquiry-received"
        assert message.body == b"not json"
        assert message.error_type == "ValidationError"
        await nothing_left(room)


async def test_a_failed_message_whose_queue_is_gone_is_not_replayed_into_nowhere(tenant: Tenant) -> None:
    async with engine_room(tenant) as room, room.running("triage"):
        await room.put(b"not json")
        failed = room.services["triage"].failed
        await eventually(failed.open)
        [(id, _)] = await failed.open()
        await failed._kept._collection.update_one({"_id": id}, {"$set": {"state.queue": "triage.gone"}})
        async with room.client("triage") as client:
            answer = await client.post(f"/failed/{id}/replay", json={"operator": "Ada"})
            assert answer.status_code == 409
            assert "triage.gone" in answer.text
        assert await failed.open()


# Large files


async def test_one_file_kept_by_many_at_once_is_whole(tenant: Tenant) -> None:
    async with engine_room(tenant) as first, engine_room(tenant) as second:
        async with first.running("intake"), second.running("intake"):
            stores = [first.services["intake"].store, second.services["intake"].store]
            content = os.urandom(3_000_000)
            await asyncio.gather(*(stores[n % 2].keep_file("raw", "same", content) for n in range(12)))
            assert await stores[0].read_file("raw", "same") == content
            assert await stores[0].read_file("raw", "other") is None


async def test_a_file_a_crash_left_half_written_is_written_anew(tenant: Tenant) -> None:
    content = os.urandom(600_000)
    async with engine_room(tenant) as room, room.running("intake"):
        store = room.services["intake"].store
        async with AsyncMongoClient[dict[str, Any]](tenant.mongodb_url("intake")) as client:
            database = client.get_default_database()
            await AsyncGridFSBucket(database, "raw").upload_from_stream_with_id("half", "half", content)
            await database["raw.files"].delete_one({"_id": "half"})
            await store.keep_file("raw", "half", content)
            assert await store.read_file("raw", "half") == content
            await database["raw.chunks"].delete_many({"files_id": "half"})
            await store.keep_file("raw", "half", content)
        assert await store.read_file("raw", "half") == content


# Queries


async def test_no_query_as_it_is_issued_looks_at_every_document(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database's own profiler watches everything the engine and the operators' routes ask."""
    monkeypatch.setattr(outbox, "RELAY_GRACE", timedelta(0))
    monkeypatch.setattr(outbox, "SWEEP_SECONDS", 0.1)
    monkeypatch.setattr(aggregates, "SWEEP_SECONDS", 0.1)
    called: list[str] = []

    async def on_due(tally: Tally, until: datetime) -> None:
        called.append(tally.claim)

    async with engine_room(tenant) as room:
        app = room.build("triage")
        store, tallies = room.services["triage"].store, room.kept["triage"]
        timed: Aggregates[Tally, Counted] = store.aggregates(
            "timed", Tally, lambda *_: [], due=lambda tally: datetime(2018, 9, 24, 9, tzinfo=UTC)
        )
        store.on_due("timed", on_due, timedelta(hours=1))
        async with (
            AsyncMongoClient[dict[str, Any]](tenant.admin_mongodb_url, tz_aware=True) as client,
            app.router.lifespan_context(app),
        ):
            watched = client[tenant.database("triage")]
            await watched.command("profile", 2)
            for n in range(30):
                message = Incoming(f"m{n}", "mail", f"e{n:031}")
                await tallies.apply(message, claiming(f"claim-{n}"), wait_published=False)
                await timed.apply(message, count, wait_published=False, opens=True)
            tallies.publish_with(Away())
            await tallies.apply(Incoming("again", "mail", "e" + "0" * 31), count, wait_published=False)
            tallies.publish_with(room.services["triage"].publisher)
            await tallies.claimed([("claim-0", "claim-1"), ("claim-2", "claim-3")])
            for n in range(5):
                await room.put(b"not json", f"bad-{n}")
            async with room.client("triage") as operator:
                await eventually(lambda: _count(operator, "/failed", 5))
                [first, second, *_] = (await operator.get("/failed")).json()
                await operator.post(f"/failed/{first['id']}/replay", json={"operator": "Ada"})
                decision = {"operator": "Ada", "reason": "no event of ours"}
                await operator.post(f"/failed/{second['id']}/discard", json=decision)
                await operator.get(f"/claims/claim-{3}")
                await operator.get(f"/story/{'0' * 32}")
            await eventually(lambda: len(called) == 30, what="timers")
            await eventually(lambda: _is(tallies.outbox.lag, 0.0), 30, "relayed")
            await watched.command("profile", 0)
            asked = await watched["system.profile"].find({"ns": {"$not": {"$regex": "system"}}}).to_list()
    kinds = {(entry["ns"].rpartition(".")[2], entry["op"]) for entry in asked}
    assert {
        (name, op) for name in ("tallies", "timed", "failed_messages") for op in ("query", "update")
    } <= kinds
    scans = [(entry["ns"], entry["command"]) for entry in asked if "COLLSCAN" in entry.get("planSummary", "")]
    assert scans == []
    sorts = [
        (entry["ns"], entry["command"])
        for entry in asked
        if entry.get("hasSortStage") and entry["nreturned"] > 5
    ]
    assert sorts == [], "many documents come in the order of an index"


async def _count(client: httpx.AsyncClient, path: str, n: int) -> bool:
    return len((await client.get(path)).json()) == n


async def _is(ask: Callable[[], Awaitable[Any]], value: Any) -> bool:
    return bool(await ask() == value)


# Logs


@contextmanager
def json_logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Everything the engine says while it lasts, as production says it."""
    said = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", said)
        for module in (aggregates, database, delivery, outbox, service, supervise):
            patch.setattr(module, "log", structlog.get_logger())  # the old one remembers where it wrote
        yield said
    structlog.reset_defaults()


async def test_no_log_line_holds_what_a_failing_handler_had_in_its_hands(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    with json_logs(monkeypatch) as said:
        async with engine_room(tenant, log_level="info") as room, room.running("triage", "mentoring"):

            async def fail(event: Any, tallies: Any) -> None:
                address = event.data.sender.address
                raise RuntimeError(f"no mailbox for {address}: {event.data.text}")

            room.handle = fail
            event = an_event("e" * 32)
            await room.put(bytes_of(event), event.id)
            await room.put(b'{"data": {"sender": {"address": "ada@library.example"}}}')

            async def failing_loop() -> None:
                address = "ada@library.example"
                raise RuntimeError("a loop failed for " + address)

            loop = supervise.supervise("test.loop", failing_loop)
            async with room.client("triage") as client:

                async def both() -> bool:
                    return len((await client.get("/failed")).json()) == 2

                await eventually(both)
                messages = (await client.get("/failed")).json()
                [kept] = [each for each in messages if each["error_type"] == "RuntimeError"]
                assert "ada@library.example" in kept["error"], "operators see the whole of it"
            await supervise.stop(loop)
        lines = [json.loads(line) for line in said.getvalue().splitlines()]
    assert {"message_retried", "message_failed", "background_loop_failed"} <= {
        line["event"] for line in lines
    }
    assert all(line["service"] in {"triage", "mentoring"} for line in lines)
    for line in lines:
        assert "ada@library.example" not in json.dumps(line), line["event"]
        assert "become a mutual" not in json.dumps(line), line["event"]
