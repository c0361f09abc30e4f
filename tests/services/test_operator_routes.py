"""What every service answers over HTTP: health, metrics, its own description, and what operators ask."""

import asyncio
import importlib
import json
from collections.abc import AsyncIterator, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.pipeline import Pipeline
from deploy.local.servers import Servers, Tenant
from deploy.topology import service_names
from shared import operators
from shared.contracts.cloudevents import EVENT_TYPES
from shared.messaging.hears import Hears
from shared.store import Incoming
from shared.store.aggregates import Aggregates
from tests.conftest import eventually
from tests.reliability.engine_room import Counted, EngineRoom, Tally, engine_room, stoppable
from tests.reliability.test_engine import an_event, bytes_of, nothing_left

REFERENCE = "MSP-7F3K-2Q"
ENQUIRY = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def servers(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers that may be stopped: those given by URL are not ours to."""
    yield from stoppable(servers, tmp_path_factory.mktemp("own-servers"))


@pytest.fixture
async def room(tenant: Tenant) -> AsyncIterator[EngineRoom]:
    """Two services on the engine: intake, which holds one enquiry with its reference, and triage."""
    async with engine_room(tenant) as made, made.running("intake", "triage", "mentoring"):
        await made.kept["intake"].apply(
            Incoming(ENQUIRY, "message.smtp", ENQUIRY), lambda _: Counted(Tally(taken=1, claim=REFERENCE))
        )
        await eventually(lambda: made.heard)
        yield made


# Who may ask

GUARDED = [
    ("GET", f"/story/{ENQUIRY}"),
    ("GET", f"/claims/{REFERENCE}"),
    ("GET", "/failed"),
    ("POST", "/failed/0123456789ab/replay"),
    ("POST", "/failed/0123456789ab/discard"),
]


WRONG = [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic Zm9yLXRlc3RzLW9ubHk=", "for-tests-only"]


async def test_operators_routes_are_closed_without_the_token(room: EngineRoom) -> None:
    transport = httpx.ASGITransport(room.apps["intake"])
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        for (method, path), authorization in product(GUARDED, WRONG):
            headers = {} if authorization is None else {"Authorization": authorization}
            body = {"operator": "Ada", "reason": "none"}
            answer = await client.request(method, path, headers=headers, json=body)
            assert answer.status_code in {401, 403}, (path, authorization)
            assert REFERENCE not in answer.text


def test_every_route_but_health_and_metrics_is_guarded(room: EngineRoom) -> None:
    paths = room.apps["intake"].openapi()["paths"]
    open_to_all = {
        path for path, methods in paths.items() for route in methods.values() if not route.get("security")
    }
    assert open_to_all == {"/health/live", "/health/ready", "/metrics"}


# What they get


async def test_the_story_of_an_enquiry_is_found_by_its_reference(room: EngineRoom) -> None:
    async with room.client("intake") as client:
        assert (await client.get(f"/claims/{REFERENCE}")).json() == {"correlation_id": ENQUIRY}
        [line] = (await client.get(f"/story/{ENQUIRY}")).json()
    assert line["took"] == "message.smtp"
    assert line["outcome"] == "Counted"
    assert line["said"] == ["enquiry.received.v1"]
    async with room.client("triage") as client:
        [line] = (await client.get(f"/story/{ENQUIRY}")).json()
        assert line["took"] == "enquiry.received.v1"
        assert (await client.get(f"/claims/{REFERENCE}")).status_code == 404, "it holds no such claim"


async def test_nothing_is_known_of_an_enquiry_that_never_was(room: EngineRoom) -> None:
    async with room.client("intake") as client:
        assert (await client.get("/claims/MSP-AAAA-AA")).status_code == 404
        assert (await client.get("/story/ffffffffffffffffffffffffffffffff")).json() == []


async def test_a_failed_message_is_listed_discarded_once_and_gone(room: EngineRoom) -> None:
    await room.put(b"\xff\x00 not json")
    async with room.client("triage") as client:

        async def failed() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = (await client.get("/failed")).json()
            return found

        await eventually(failed)
        [message] = await failed()
        assert message["queue"] == "triage.enquiry-received"
        assert message["body"].endswith(" not json")
        for decision in ({}, {"operator": ""}, {"operator": "Ada", "reason": "x"}, {"operator": {"$ne": 1}}):
            path = f"/failed/{message['id']}/discard"
            assert (await client.post(path, json=decision)).status_code == 422
        given = {"operator": "Ada", "reason": "no event of ours"}
        assert (await client.post(f"/failed/{message['id']}/discard", json=given)).json() == {
            "status": "discarded",
            "queue": "triage.enquiry-received",
        }
        for again in ("discard", "replay"):
            assert (await client.post(f"/failed/{message['id']}/{again}", json=given)).status_code == 409
        assert await failed() == []
        assert (await client.post("/failed/ffffffffffff/replay", json=given)).status_code == 409
    await nothing_left(room)


HOSTILE = [
    "..%2F..%2Fetc%2Fpasswd",
    "%2e%2e%2fmetrics",
    "$ne",
    "%24where",
    '{"$gt":""}',
    "%00",
    "abcdefgh%00",
    "0123456789ab%0A",
    "0123456789ab%0D%0ASet-Cookie:x",
    "a" * 5_000,
    "%F0%9F%92%A9",
    "%ff%fe",
    "*",
    "' OR 1=1 --",
    "[$regex]",
]


async def test_hostile_ids_are_refused_and_reach_no_query(
    room: EngineRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def asked(*_: Any, **__: Any) -> Any:
        raise AssertionError("it reached a query")

    for name in ("story", "claimed_by", "documents", "apply"):
        monkeypatch.setattr(Aggregates, name, asked)
    async with room.client("intake") as client:
        for given in HOSTILE:
            for path in (f"/story/{given}", f"/claims/{given}"):
                assert (await client.get(path)).status_code in {404, 422}, path
            for path in (f"/failed/{given}/replay", f"/failed/{given}/discard"):
                answer = await client.post(path, json={"operator": "Ada", "reason": "none"})
                assert answer.status_code in {404, 422}, path
        for limit in ("0", "-1", "1001", "NaN", "[$gt]", "1e3"):
            assert (await client.get("/failed", params={"limit": limit})).status_code == 422


# Health


async def test_ready_names_the_database_while_it_is_away_and_live_stays(
    room: EngineRoom, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "ANSWER_SECONDS", 1.0)
    async with room.client("triage") as client:
        assert (await client.get("/health/ready")).json() == {"broker": "ok", "database": "ok"}
        await asyncio.to_thread(servers.mongodb.stop)
        try:
            answer = await client.get("/health/ready")
            assert answer.status_code == 503
            assert answer.json()["broker"] == "ok"
            assert answer.json()["database"] != "ok"
            assert "127.0.0.1" not in answer.text, "anybody may ask, so it names no hosts"
            assert (await client.get("/health/live")).status_code == 200
            assert (await client.get(f"/story/{ENQUIRY}")).status_code == 503
            assert (await client.get("/failed")).status_code == 503
            replay = await client.post("/failed/0123456789ab/replay", json={"operator": "Ada"})
            assert replay.status_code == 503, "answered in time, not when the database is back"
        finally:
            await asyncio.to_thread(servers.mongodb.start)
        await eventually(lambda: _ready(client), 30)


async def test_ready_names_the_broker_while_it_is_away_and_live_stays(
    room: EngineRoom, servers: Servers
) -> None:
    async with room.client("triage") as client:
        await asyncio.to_thread(servers.rabbitmq.stop)
        try:
            answer = await client.get("/health/ready")
            assert answer.status_code == 503
            assert answer.json()["database"] == "ok"
            assert answer.json()["broker"] != "ok"
            assert (await client.get("/health/live")).json() == {"service": "triage"}
        finally:
            await asyncio.to_thread(servers.rabbitmq.start)
        await eventually(lambda: _ready(client), 60)
        await room.accept("f" * 32)
        await eventually(lambda: "f" * 32 in {heard.correlationid for heard in room.heard}, 30)


async def test_ready_is_not_fooled_by_a_broker_that_is_frozen(room: EngineRoom, servers: Servers) -> None:
    async with room.client("triage") as client:
        assert await _ready(client)
        await asyncio.to_thread(servers.rabbitmq.freeze)
        try:
            answer = await client.get("/health/ready")
            assert (answer.status_code, answer.json()["broker"]) == (503, "TimeoutError")
        finally:
            await asyncio.to_thread(servers.rabbitmq.thaw)
        await eventually(lambda: _ready(client), 60)
        event = an_event("a" * 32)
        await room.put(bytes_of(event), event.id)
        await eventually(lambda: "a" * 32 in {heard.correlationid for heard in room.heard}, 30)


async def test_ready_names_a_queue_that_has_lost_its_consumer(room: EngineRoom) -> None:
    subscriber: Any = room.services["triage"].broker.subscribers[0]
    channel = await subscriber._queue_obj.channel.get_underlay_channel()
    await channel.basic_cancel(subscriber._consumer_tag)
    async with room.client("triage") as client:
        answer = await client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["broker"] == f"nobody takes from {subscriber.queue.name}"


async def _ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/health/ready")).status_code == 200


# Metrics

OURS = {
    "messages_decided": "aggregate",
    "messages_already_taken": "aggregate",
    "messages_retried": "queue",
    "messages_failed": "queue",
    "commit_group_size": "aggregate",
    "commit_seconds": "aggregate",
    "commit_conflicts": "aggregate",
    "publish_seconds": None,
    "publish_failures": "exchange",
    "outbox_relayed": "aggregate",
    "outbox_lag_seconds": "aggregate",
    "enquiry_age_seconds": "stage",
}
FASTSTREAM = {
    "faststream_received_messages",
    "faststream_received_messages_in_process",
    "faststream_received_processed_messages",
    "faststream_received_processed_messages_duration_seconds",
    "faststream_published_messages",
}


async def test_metrics_hold_what_the_kit_and_faststream_measure(room: EngineRoom) -> None:
    async with room.client("triage") as client:

        async def families() -> dict[str, Any]:
            text = (await client.get("/metrics")).text
            return {family.name: family for family in text_string_to_metric_families(text)}

        found = await families()
        assert set(OURS) | FASTSTREAM <= set(found)

        def value(name: str, **labels: str) -> float:
            return sum(
                sample.value
                for sample in found[name.removesuffix("_total").removesuffix("_count")].samples
                if sample.name == name and labels.items() <= sample.labels.items()
            )

        retried = value("messages_retried_total", queue="triage.enquiry-received")
        decided = value("messages_decided_total", aggregate="tallies", outcome="Counted")
        dead = value("messages_failed_total", queue="triage.enquiry-received")
        taken = value("faststream_received_messages_total", app_name="triage")
        groups = value("commit_group_size_count", aggregate="tallies")
        failures = 0

        async def fail_once(event: Any, tallies: Any) -> None:
            nonlocal failures
            failures += 1
            if failures == 1:
                raise RuntimeError("once")
            await tallies.apply(event, lambda tally: Counted(Tally(taken=1)))

        room.handle = fail_once
        await room.accept("b" * 32)
        await room.put(b"not json")
        await eventually(lambda: "b" * 32 in {heard.correlationid for heard in room.heard})
        await eventually(room.services["triage"].failed.open)
        found = await families()
        assert value("messages_retried_total", queue="triage.enquiry-received") == retried + 1
        assert value("messages_decided_total", aggregate="tallies", outcome="Counted") >= decided + 2
        assert value("messages_failed_total", queue="triage.enquiry-received") == dead + 1
        assert value("faststream_received_messages_total", app_name="triage") >= taken + 3
        assert value("commit_group_size_count", aggregate="tallies") > groups
        assert value("publish_seconds_count") > 0


async def test_outbox_lag_is_the_age_of_the_oldest_event_and_falls_to_nothing(room: EngineRoom) -> None:
    class Away:
        async def publish(self, entry: object) -> None:
            raise ConnectionError("away")

    kept = room.kept["intake"]
    real = kept.outbox.publisher
    kept.outbox.publisher = Away()
    await room.accept("c" * 32)
    first = await kept.outbox.lag()

    async def older() -> bool:
        return await kept.outbox.lag() > first > 0

    await eventually(older)
    kept.outbox.publisher = real

    async def nothing() -> bool:
        return await kept.outbox.lag() == 0

    await eventually(nothing, 30)


# What each service says of itself


@pytest.fixture
def real_app(tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes the application of one of the real services, which is not started: a description needs no server."""
    pipeline = Pipeline(tenant, tmp_path, mail_server_port=25)

    def make(name: str) -> FastAPI:
        for variable, value in pipeline.services[name].environment.items():
            monkeypatch.setenv(variable, value)
        app: FastAPI = importlib.import_module(f"services.{name}.app").app()
        return app

    yield make
    pipeline.stop()


async def described(app: FastAPI, path: str) -> Any:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        answer = await client.get(path)
    assert answer.status_code == 200
    return answer.json()


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolved(document: Any, reference: str) -> Any:
    assert reference.startswith("#/"), reference
    node = document
    for step in reference[2:].split("/"):
        node = node[step.replace("~1", "/").replace("~0", "~")]
    return node


@pytest.mark.parametrize("name", service_names())
async def test_asyncapi_names_every_queue_heard_and_every_event_said(
    name: str, real_app: Any, tenant: Tenant
) -> None:
    document = await described(real_app(name), "/asyncapi.json")
    assert document["asyncapi"] == "3.0.0"
    for reference in references(document):
        resolved(document, reference)
    text = json.dumps(document)
    assert "@" not in json.dumps(document["servers"]), "no credentials"
    assert tenant.amqp_url(name).split(":")[2].partition("@")[0] not in text

    received, sent = {}, {}
    for operation in document["operations"].values():
        channel = resolved(document, operation["channel"]["$ref"])
        [message] = [resolved(document, each["$ref"]) for each in channel["messages"].values()]
        payload = resolved(document, message["payload"]["$ref"])
        if operation["action"] == "receive":
            received[channel["bindings"]["amqp"]["queue"]["name"]] = payload
        else:
            assert channel["bindings"]["amqp"]["exchange"]["name"] == name
            assert channel["bindings"]["amqp"]["exchange"]["type"] == "topic"
            sent[channel["address"]] = payload
    table: Hears = importlib.import_module(f"services.{name}.handlers").hears
    assert set(received) == {each.queue for each in table.subscriptions} | {f"{name}.dead"}
    for each in table.subscriptions:
        assert received[each.queue]["properties"]["type"]["const"] == each.kind.event_type()
    assert set(sent) == {kind.event_type() for kind in EVENT_TYPES.values() if kind.publisher() == name}
    for written, payload in sent.items():
        assert payload["properties"]["type"]["const"] == written


@pytest.mark.parametrize("name", service_names())
async def test_openapi_describes_every_route(name: str, real_app: Any) -> None:
    app = real_app(name)
    document = await described(app, "/openapi.json")
    assert document["openapi"].startswith("3.1")
    assert document["info"]["title"] == f"mutuals-support {name}"
    for reference in references(document):
        resolved(document, reference)
    routes = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert {
        ("/health/live", "get"),
        ("/health/ready", "get"),
        ("/metrics", "get"),
        ("/story/{correlation_id}", "get"),
        ("/claims/{claim}", "get"),
        ("/failed", "get"),
        ("/failed/{id}/replay", "post"),
        ("/failed/{id}/discard", "post"),
    } <= routes
    if name == "intake":
        assert {("/enquiries", "post"), ("/enquiries/{enquiry}", "get")} <= routes
    ids = [route["operationId"] for methods in document["paths"].values() for route in methods.values()]
    assert len(ids) == len(set(ids))
    for path, methods in document["paths"].items():
        for route in methods.values():
            assert route.get("summary") and route.get("responses"), path
            named = {each["name"] for each in route.get("parameters", []) if each["in"] == "path"}
            assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}


@pytest.mark.parametrize("name", service_names())
async def test_asyncapi_can_be_read_in_a_browser(name: str, real_app: Any) -> None:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(real_app(name)), base_url="http://x"
    ) as client:
        answer = await client.get("/asyncapi")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert f"mutuals-support {name}" in answer.text
