"""The servers themselves, on real ones of this module's own: ports, accounts, levers, what is left behind."""

import asyncio
import gc
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import socket

import aio_pika
import psutil
import pymongo
import pytest
from aio_pika.exceptions import AMQPError
from aiormq.exceptions import ChannelAccessRefused
from pymongo.errors import OperationFailure, PyMongoError

from deploy.local.servers import Servers, ServersError, Tenant, start
from tests.conftest import eventually

ROOT = Path(__file__).resolve().parents[2]
PREFERRED = (5672, 15672, 27017)


@dataclass
class Own:
    servers: Servers
    folder: Path
    said: list[str]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    """Servers started while somebody listens on every usual port."""
    folder = tmp_path_factory.mktemp("own-servers")
    said: list[str] = []
    with ExitStack() as others:
        for port in PREFERRED:
            other = others.enter_context(socket())
            with suppress(OSError):  # taken in earnest already
                other.bind(("127.0.0.1", port))
                other.listen()
        servers = start(folder, keep=True, say=said.append, environment={})
    with servers:
        yield Own(servers, folder, said)


@pytest.fixture
def tenant(own: Own) -> Iterator[Tenant]:
    made = own.servers.tenant(f"t{uuid.uuid4().hex[:10]}", ["intake", "triage"])
    yield made
    made.drop()


def processes_of(folder: Path) -> set[str]:
    """Names of the processes that work on this folder, by their command line or environment."""
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.ppid() and any(
                str(folder) in word for word in (*process.cmdline(), *process.environ().values())
            ):
                found.add(process.name())
    return found


async def declare(tenant: Tenant, service: str = "triage") -> None:
    connection = await aio_pika.connect(tenant.admin_amqp_url)
    async with connection, connection.channel() as channel:
        exchange = await channel.declare_exchange(service, "topic", durable=True)
        queue = await channel.declare_queue(
            f"{service}.heard", durable=True, arguments={"x-queue-type": "quorum"}
        )
        await queue.bind(exchange, "#")


async def publish(url: str, exchange: str, count: int = 1) -> None:
    connection = await aio_pika.connect(url)
    async with connection, connection.channel() as channel:
        target = await channel.get_exchange(exchange, ensure=False)
        for _ in range(count):
            await target.publish(
                aio_pika.Message(b"{}", delivery_mode=aio_pika.DeliveryMode.PERSISTENT),
                routing_key="x",
                timeout=5,
            )


def test_taken_ports_are_left_alone_and_the_others_are_said(own: Own) -> None:
    used = {
        int(url.rpartition(":")[2].partition("/")[0])
        for url in (own.servers.rabbitmq.url, own.servers.mongodb.url)
    }
    used.add(int(own.servers.rabbitmq.management_url.rpartition(":")[2]))
    assert len(used) == 3
    assert not used & set(PREFERRED)
    for port in PREFERRED:
        assert any(f"port {port} is taken" in line for line in own.said)


async def test_a_services_broker_account_reaches_its_own_queues(tenant: Tenant) -> None:
    await declare(tenant)
    await publish(tenant.amqp_url("triage"), "triage")
    connection = await aio_pika.connect(tenant.amqp_url("triage"))
    async with connection, connection.channel() as channel:
        await channel.declare_exchange("triage", "topic", durable=True, passive=True)
        queue = await channel.declare_queue("triage.heard", durable=True, passive=True)
        heard: asyncio.Queue[aio_pika.abc.AbstractIncomingMessage] = asyncio.Queue()
        await queue.consume(heard.put)
        async with asyncio.timeout(5):
            await (await heard.get()).ack()


@pytest.mark.parametrize("crossing", ["read", "publish", "declare", "bind", "default exchange"])
async def test_a_services_broker_account_reaches_nothing_else(tenant: Tenant, crossing: str) -> None:
    await declare(tenant, "triage")
    await declare(tenant, "intake")
    connection = await aio_pika.connect(tenant.amqp_url("intake"))
    async with connection:
        channel = await connection.channel()
        own_queue = await channel.get_queue("intake.heard", ensure=False)
        with pytest.raises(ChannelAccessRefused):
            match crossing:
                case "read":
                    await (await channel.get_queue("triage.heard", ensure=False)).get(fail=False)
                case "publish":
                    await publish(tenant.amqp_url("intake"), "triage")
                case "declare":
                    await channel.declare_queue("intake.more", durable=True)
                case "bind":
                    await own_queue.bind("triage", "#")
                case "default exchange":
                    await channel.default_exchange.publish(aio_pika.Message(b""), routing_key="triage.heard")


@pytest.mark.filterwarnings("ignore:coroutine 'Connection.close':RuntimeWarning")
async def test_a_services_broker_account_can_not_enter_another_tenant(own: Own, tenant: Tenant) -> None:
    other = own.servers.tenant(f"t{uuid.uuid4().hex[:10]}", ["intake"])
    url = tenant.amqp_url("intake").replace(f"/{tenant.name}", f"/{other.name}")
    with pytest.raises((AMQPError, ConnectionError)):
        await aio_pika.connect(url, timeout=5)
    other.drop()
    gc.collect()  # aiormq leaves a coroutine unawaited when it is refused; let it be found here


def test_a_services_database_account_reaches_its_own_database_and_nothing_else(tenant: Tenant) -> None:
    with pymongo.MongoClient(tenant.mongodb_url("intake")) as client:
        mine = client.get_default_database().with_options(
            write_concern=pymongo.WriteConcern("majority", j=True)
        )
        mine.messages.create_index("reference", unique=True)
        mine.messages.insert_one({"reference": 1})
        mine.messages.drop()
        for refused in (
            client[tenant.database("triage")].cases.find_one,
            lambda: client[tenant.database("triage")].cases.insert_one({}),
            lambda: client.admin.command("usersInfo", 1),
            lambda: mine.command("createUser", "another", pwd="x", roles=[]),
            lambda: client.list_database_names() == [mine.name] or client.drop_database("admin"),
        ):
            with pytest.raises(OperationFailure, match=r"not authorized|requires authentication"):
                refused() and pytest.fail("allowed")


def test_a_tenant_made_again_has_the_same_credentials_and_a_dropped_one_has_none(
    own: Own, tenant: Tenant
) -> None:
    before = tenant.amqp_url("intake"), tenant.mongodb_url("intake")
    again = own.servers.tenant(tenant.name, ["intake", "triage"])
    assert (again.amqp_url("intake"), again.mongodb_url("intake")) == before
    again.drop()
    again.drop()
    with pytest.raises(OperationFailure), pymongo.MongoClient(before[1]) as client:
        client.get_default_database().command("listCollections")


async def test_a_message_in_a_consumers_hands_is_counted_as_left_in_its_queue(tenant: Tenant) -> None:
    await declare(tenant)
    assert tenant.queue_depths() == {"triage.heard": 0}
    await publish(tenant.amqp_url("triage"), "triage", 2)
    assert tenant.queue_depths() != {"triage.heard": 0}
    connection = await aio_pika.connect(tenant.amqp_url("triage"))
    async with connection, connection.channel() as channel:
        queue = await channel.get_queue("triage.heard")
        first, second = await queue.get(), await queue.get()
        assert tenant.queue_depths() == {"triage.heard": 2}
        await first.ack()
        await second.ack()
        await eventually(lambda: tenant.queue_depths() == {"triage.heard": 0})


async def test_servers_come_back_with_their_data_and_ports(own: Own, tenant: Tenant) -> None:
    await declare(tenant)
    # In this order: RabbitMQ 3.10 can lose a queue that is killed within a second of being declared.
    for run, how in enumerate(["stop", "kill"], start=1):
        await publish(tenant.amqp_url("triage"), "triage", 3)
        with pymongo.MongoClient(tenant.mongodb_url("triage")) as client:
            client.get_default_database().cases.with_options(
                write_concern=pymongo.WriteConcern("majority", j=True)
            ).insert_one({"_id": run})
        for server in (own.servers.rabbitmq, own.servers.mongodb):
            getattr(server, how)()
            server.start()
        with pymongo.MongoClient(tenant.mongodb_url("triage")) as client:
            assert client.get_default_database().cases.find_one({"_id": run})
        await eventually(lambda run=run: tenant.queue_depths() == {"triage.heard": 3 * run})


def test_a_frozen_server_is_silent_until_thawed(own: Own, tenant: Tenant) -> None:
    with pymongo.MongoClient(tenant.mongodb_url("triage"), socketTimeoutMS=300, timeoutMS=300) as client:
        database = client.get_default_database()
        database.cases.find_one()
        own.servers.mongodb.freeze()
        try:
            with pytest.raises(PyMongoError):
                database.cases.find_one()
        finally:
            own.servers.mongodb.thaw()
    with pymongo.MongoClient(tenant.mongodb_url("triage")) as client:
        client.get_default_database().cases.find_one()


async def test_given_urls_are_used_and_left_running(own: Own, tmp_path: Path) -> None:
    running = own.servers
    given = {
        "RABBITMQ_URL": running.rabbitmq.url,
        "RABBITMQ_MANAGEMENT_URL": running.rabbitmq.management_url,
        "MONGODB_URL": running.mongodb.url,
    }
    with start(tmp_path, keep=False, environment=given) as used:
        assert used.rabbitmq.kind == used.mongodb.kind == "given"
        with pytest.raises(ServersError, match="not ours"):
            used.mongodb.kill()
        tenant = used.tenant(f"t{uuid.uuid4().hex[:10]}", ["triage"])
        await declare(tenant)
        await publish(tenant.amqp_url("triage"), "triage")
        tenant.drop()
    running.rabbitmq.wait_ready(5)
    running.mongodb.wait_ready(5)


NEXT_RUN = """
import json, sys
from pathlib import Path
import pymongo
from deploy.local.servers import start
servers = start(Path(sys.argv[1]), keep=True, environment={})
tenant = servers.tenant("kept", ["triage"])
with pymongo.MongoClient(tenant.mongodb_url("triage")) as client:
    document = client.get_default_database().cases.find_one()
print(json.dumps({"url": tenant.amqp_url("triage").partition("@")[0], "document": document}), flush=True)
sys.stdin.read()
"""


async def test_nothing_is_left_running_and_the_next_run_goes_on_from_there(own: Own) -> None:
    """Last in this module: it ends the module's servers, then kills a second run without warning."""
    kept = own.servers.tenant("kept", ["triage"])
    with pymongo.MongoClient(kept.mongodb_url("triage")) as client:
        client.get_default_database().cases.insert_one({"_id": 7})
    if own.servers.rabbitmq.kind == "local":
        assert processes_of(own.folder) >= {"beam.smp", "epmd", "erl_child_setup", "mongod"}
    own.servers.stop()
    assert processes_of(own.folder) == set()

    following = subprocess.Popen(  # noqa: ASYNC220 - 0.01 s
        [sys.executable, "-c", NEXT_RUN, str(own.folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with following:
        assert following.stdout is not None
        line = await asyncio.to_thread(following.stdout.readline)
        assert json.loads(line) == {"url": kept.amqp_url("triage").partition("@")[0], "document": {"_id": 7}}
        following.kill()
    await eventually(
        lambda: processes_of(own.folder) == set(), 30, "a killed run's servers end by themselves"
    )
