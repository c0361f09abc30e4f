"""The whole pipeline as separate processes under load, and the one question asked after every disaster:
has everything happened exactly once?

Mail comes in from a client that behaves as mail servers do (the same message again until it is accepted) and
goes out to a server in this process, which is where the mails are counted.
"""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.utils import parseaddr
from itertools import count, islice
from pathlib import Path
from typing import Any

import aio_pika
import httpx
import pymongo

from deploy.local.pipeline import ADDRESS, OPERATORS, PROGRAMME, ROOT, Pipeline, ServiceProcess
from deploy.local.servers import Servers, Tenant, free_port
from services.triage.programme import load_programme
from tests.benchmarks.load import Client, Refused
from tests.conftest import eventually
from tests.mailsink import Arrival, MisbehavingServer

PROGRAMME_TIME = datetime(2018, 9, 24, 8, tzinfo=UTC)  # 09:00 in London, in the second window
CONNECTIONS = 4
"""To the mail server. Twice as many mails may be handed over and not yet recorded, one for each worker."""
AT_ONCE = 2 * CONNECTIONS
CLIENTS = 12
PARTNERS = frozenset(partner.address for partner in load_programme(PROGRAMME / "programme.yaml").partners)
QUICK = {
    "NOTIFICATIONS_ATTEMPT_SECONDS": "3",  # so that the lease of a sender that was killed ends in 13 s
    "NOTIFICATIONS_FIRST_RETRY_SECONDS": "1",
    "NOTIFICATIONS_CONNECTIONS": str(CONNECTIONS),
    "INTAKE_ACCEPT_SECONDS": "4",
}


def enquiry_messages(tag: str) -> Iterator[tuple[str, bytes]]:
    """Message-IDs with their messages as they go over the wire, without end. Every sender is another person,
    because one person may have but so many mentoring sessions."""
    lines = (ROOT / "deploy/demo/enquiries-dev.jsonl").read_text().splitlines()
    for number in count():
        enquiry = json.loads(lines[number % len(lines)])
        local, _, domain = enquiry["from_address"].partition("@")
        message = EmailMessage()
        message["From"] = f'"{enquiry["from_name"]}" <{local}.{tag}{number}@{domain}>'
        message["To"] = ADDRESS
        message["Subject"] = enquiry["subject"]
        message["Date"] = "Mon, 24 Sep 2018 09:00:00 +0100"
        message["Message-ID"] = f"<{tag}.{number}@load.example>"
        message.set_content(enquiry["body"])
        raw = message.as_bytes(policy=message.policy.clone(linesep="\r\n"))
        stuffed = (b"." + line if line.startswith(b".") else line for line in raw.split(b"\r\n"))
        yield message["Message-ID"], b"\r\n".join(stuffed)


def senders(n: int, tag: str) -> list[str]:
    """The addresses the first `n` of the same messages come from."""
    parsed = (message_from_bytes(message) for _, message in islice(enquiry_messages(tag), n))
    return [parseaddr(message["From"])[1] for message in parsed]


@dataclass
class Run:
    """A pipeline that is running.

    `accepted` are the Message-IDs intake said 250 to; `put_off` counts what else it said or did (`451`,
    `421`, `closed`, `refused`). `undeliverable` are recipients the mail server refuses for good. `settled`
    says that everything had happened exactly once when it was last asked, and `doubled` how many mails had
    come twice by then. `not_by_mail` are references of what a test asked for behind intake's back.
    """

    servers: Servers
    tenant: Tenant
    pipeline: Pipeline
    sink: MisbehavingServer
    folder: Path
    database: "pymongo.MongoClient[dict[str, Any]]"
    accepted: set[str] = field(default_factory=set)
    put_off: Counter[str] = field(default_factory=Counter)
    replicas: list[ServiceProcess] = field(default_factory=list)
    undeliverable: set[str] = field(default_factory=set)
    not_by_mail: set[str] = field(default_factory=set)
    settled: bool = True
    doubled: int = 0

    # Load

    async def load(self, n: int, *, rate: float, tag: str) -> None:
        """Send `n` enquiries, `rate` a second, and return when every one has been accepted."""
        async with self.flow(rate=rate, tag=tag, at_least=n):
            pass

    @asynccontextmanager
    async def flow(self, *, rate: float, tag: str, at_least: int = 0) -> AsyncIterator[None]:
        """Enquiries flow in, `rate` a second, for as long as this lasts, and `at_least` so many. It ends when
        every one has been accepted."""
        waiting: asyncio.Queue[tuple[str, bytes] | None] = asyncio.Queue(1)
        over = asyncio.Event()

        async def produce() -> None:
            loop = asyncio.get_running_loop()
            due = loop.time()
            for number, item in enumerate(enquiry_messages(tag)):
                assert item[0] not in self.accepted, f"{tag} has been sent before"
                if over.is_set() and number >= at_least:
                    break
                # What could not be sent in time is not made up for: clients wait as long as they are refused.
                due = max(due + 1 / rate, loop.time() - 1)
                await asyncio.sleep(max(0.0, due - loop.time()))
                await waiting.put(item)
            for _ in range(CLIENTS):
                await waiting.put(None)

        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._send_all(waiting))
            group.create_task(produce())
            yield
            over.set()

    async def _send_all(self, waiting: "asyncio.Queue[tuple[str, bytes] | None]") -> None:
        """One client: each message again and again, until it is accepted."""
        client: Client | None = None
        try:
            while (item := await waiting.get()) is not None:
                message_id, message = item
                while message_id not in self.accepted:
                    try:
                        if client is None:
                            client = await Client.connect(self.pipeline.smtp_port)
                        await client.send(message)
                        self.accepted.add(message_id)
                    except (Refused, OSError) as error:
                        self.put_off[str(error)[:3] if isinstance(error, Refused) else "refused"] += 1
                        if client is not None:
                            client.close()
                            client = None
                        await asyncio.sleep(0.1)  # a real server waits for longer
        finally:
            if client is not None:
                client.close()

    async def more_accepted(self, n: int, seconds: float = 60.0) -> None:
        """Wait until so many more have been accepted: progress, by which disasters are timed."""
        enough = len(self.accepted) + n
        await eventually(lambda: len(self.accepted) >= enough, seconds, f"{n} more enquiries accepted")

    # Processes

    def service(self, name: str) -> ServiceProcess:
        return self.pipeline.services[name]

    async def ready(self, *names: str) -> None:
        services = [self.service(name) for name in names or self.pipeline.services]
        await asyncio.gather(*(asyncio.to_thread(service.wait_ready) for service in services))

    @asynccontextmanager
    async def replica(self, name: str) -> AsyncIterator[ServiceProcess]:
        """A second process of a service beside the first."""
        first, port = self.service(name), free_port()
        made = replace(
            first,
            port=port,
            environment={**first.environment, f"{name.upper()}_HTTP_PORT": str(port)},
            log_file=self.folder / f"{name}.replica.log",
            process=None,
        )
        self.replicas.append(made)
        try:
            await asyncio.to_thread(made.start)
            await asyncio.to_thread(made.wait_ready)
            yield made
        finally:
            await asyncio.to_thread(made.kill)
            self.replicas.remove(made)

    async def kill(self, name: str) -> None:
        await asyncio.to_thread(self.service(name).kill)

    async def start(self, name: str) -> None:
        await asyncio.to_thread(self.service(name).start)

    async def stop(self, name: str) -> tuple[int | None, float]:
        """SIGTERM; returns the exit code and how many seconds it took."""
        process = self.service(name).process
        assert process is not None
        started = time.monotonic()
        await asyncio.to_thread(process.stop)
        return process._keeper.returncode, time.monotonic() - started

    async def decisions(self, process: ServiceProcess) -> float:
        """How many messages this process has decided on, by its own metrics."""
        async with httpx.AsyncClient(trust_env=False) as client:
            text = (await client.get(f"{process.url}/metrics")).text
        return sum(
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith("messages_decided_total{")
        )

    # Broker

    @asynccontextmanager
    async def broker(self) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
        """A channel with the administrator's credentials."""
        async with (
            await aio_pika.connect(self.tenant.admin_amqp_url) as connection,
            connection.channel() as channel,
        ):
            yield channel

    async def depths(self) -> dict[str, int]:
        found = await asyncio.to_thread(self.tenant.queue_depths)
        return {queue: depth for queue, depth in found.items() if depth}

    # What was stored

    def documents(self, service: str, collection: str) -> list[dict[str, Any]]:
        return list(self.database[self.tenant.database(service)][collection].find())

    def count(self, service: str, collection: str, query: dict[str, Any]) -> int:
        return int(self.database[self.tenant.database(service)][collection].count_documents(query))

    def unpublished(self) -> dict[str, int]:
        """Documents with anything left in their outbox, by collection."""
        left = {}
        for service in self.pipeline.services:
            database = self.database[self.tenant.database(service)]
            for name in database.list_collection_names():
                query = {"$or": [{"outbox.0": {"$exists": True}}, {"outbox_since": {"$exists": True}}]}
                if found := database[name].count_documents(query):
                    left[f"{service}.{name}"] = found
        return left

    def failed_messages(self) -> list[str]:
        return [
            f"{service}: {document['state']['error_type']} in {document['state']['queue']}: "
            f"{document['state']['error'][:200]}"
            for service in self.pipeline.services
            for document in self.documents(service, "failed_messages")
        ]

    def log_of(self, enquiry: str = "") -> str:
        """What every service's log says of one enquiry, and how each log ends."""
        parts = []
        for process in [*self.pipeline.services.values(), *self.replicas]:
            if not process.log_file.exists():
                continue
            lines = process.log_file.read_text(errors="replace").splitlines()
            about = [line for line in lines if enquiry and enquiry in line][-6:]
            parts.append(f"--- {process.log_file.name}\n" + "\n".join([*about, "…", *lines[-6:]]))
        return "\n".join(parts)


@asynccontextmanager
async def running(
    servers: Servers,
    tenant: Tenant,
    folder: Path,
    **extra: str,
) -> AsyncIterator[Run]:
    """The pipeline, started and ready, and ended afterwards; `extra` are settings of its services."""
    async with MisbehavingServer() as sink:
        pipeline = Pipeline(
            tenant,
            folder,
            mail_server_port=sink.port,
            clock_offset=PROGRAMME_TIME - datetime.now(UTC),
            extra={**QUICK, **extra},
        )
        with pymongo.MongoClient[dict[str, Any]](tenant.admin_mongodb_url, tz_aware=True) as database:
            run = Run(servers, tenant, pipeline, sink, folder, database)
            try:
                await asyncio.to_thread(pipeline.start)
                yield run
            finally:
                # Killed, not stopped: a test that wants a good end asks for one, and this one costs nothing.
                for process in pipeline.services.values():
                    await asyncio.to_thread(process.kill)
                pipeline.stop()


# The one question


async def everything_exactly_once(run: Run, *, doubled_mails: int = 0, seconds: float = 60.0) -> int:
    """Wait until nothing is left to do; then every accepted enquiry has exactly one case, one
    acknowledgement, and one mail to a partner or to the operators, counted at the mail server.

    `doubled_mails` is how many mails may have been handed over twice since this was last asked, in the window
    the design documents: with the same Message-ID and the same bytes. Returns how many were.
    """
    run.settled = False
    left: list[str] = []

    async def nothing_left() -> bool:
        left[:] = await asyncio.to_thread(_left_to_do, run)
        if not left and (depths := await run.depths()):
            left.append(f"in queues: {depths}")
        return not left

    try:
        await eventually(nothing_left, seconds)
    except AssertionError:
        problems = await asyncio.to_thread(_wrong, run)
        raise AssertionError(
            "\n".join([f"not settled within {seconds:g} s:", *left, *problems[:10], run.log_of()])
        ) from None
    problems = await asyncio.to_thread(_wrong, run)
    by_id: dict[str, list[Arrival]] = {}
    for arrival in run.sink.arrivals:
        by_id.setdefault(arrival.message_id, []).append(arrival)
    doubled = {id: copies for id, copies in by_id.items() if len(copies) > 1}
    for copies in doubled.values():
        if len({(copy.message, copy.recipient) for copy in copies}) > 1:
            problems.append(f"{copies[0].reference}: handed over twice, and not the same bytes")
    total = sum(len(copies) - 1 for copies in doubled.values())
    extra = total - run.doubled
    if extra > doubled_mails:
        problems += [
            f"{copies[0].reference}: {len(copies)} times to {copies[0].recipient} ({id})"
            for id, copies in doubled.items()
        ]
        problems.append(f"{extra} mails were handed over again, and {doubled_mails} may have been")
    if problems:
        enquiry = _enquiry_of(run, problems[0].partition(":")[0])
        raise AssertionError("\n".join([f"{len(problems)} problems:", *problems[:20], run.log_of(enquiry)]))
    run.settled, run.doubled = True, total
    return extra


def _left_to_do(run: Run) -> list[str]:
    left = []
    accepted = len(run.accepted)
    for service, collection in (("intake", "messages"), ("triage", "cases")):
        if (stored := run.count(service, collection, {})) < accepted:
            left.append(f"{service}.{collection}: {stored} of {accepted}")
    if waiting := run.count("notifications", "notifications", {"state.status": "queued"}):
        left.append(f"mails waiting: {waiting}")
    if unpublished := run.unpublished():
        left.append(f"outboxes: {unpublished}")
    return left


def _wrong(run: Run) -> list[str]:
    """What is missing or doubled, beginning with the reference of the enquiry it happened to."""
    wrong = [f"failed message: {failed}" for failed in run.failed_messages()]
    kept = [document["state"] for document in run.documents("intake", "messages")]
    messages = {message["message_id"]: message for message in kept}
    cases = {document["_id"]: document["state"] for document in run.documents("triage", "cases")}
    sessions = {document["_id"]: document["state"] for document in run.documents("mentoring", "sessions")}
    if len(messages) != len(kept):
        wrong.append(f"intake keeps {len(kept)} enquiries of {len(messages)} messages")
    wrong += [f"{message_id}: accepted and not kept" for message_id in run.accepted - messages.keys()]
    wrong += [f"{message_id}: kept, never accepted" for message_id in messages.keys() - run.accepted]
    known = {message["id"] for message in kept}
    wrong += [f"{case['reference']}: a case of no enquiry" for id, case in cases.items() if id not in known]

    mails: dict[str, list[Arrival]] = {}
    for arrival in {arrival.message_id: arrival for arrival in run.sink.arrivals}.values():
        mails.setdefault(arrival.reference, []).append(arrival)
    for message_id, message in messages.items():
        reference, enquiry = message["reference"], message["id"]
        case = cases.get(enquiry)
        if case is None:
            wrong.append(f"{reference}: no case")
            continue
        expected = _expected(message, case, sessions.get(enquiry), run.undeliverable)
        found = Counter(_kind(arrival, message_id) for arrival in mails.pop(reference, []))
        for kind in expected.keys() | found.keys():
            if expected[kind] != found[kind]:
                wrong.append(f"{reference}: {found[kind]} mails {kind}, where {expected[kind]} should be")
    wrong += [f"{reference}: mails about no enquiry" for reference in mails.keys() - run.not_by_mail]
    return wrong


def _expected(
    message: dict[str, Any], case: dict[str, Any], session: dict[str, Any] | None, undeliverable: set[str]
) -> "Counter[str]":
    """How many mails of which kind the enquiry leads to."""
    expected: Counter[str] = Counter()
    if not message["suppress_reply"] and message["sender"]["address"] not in undeliverable:
        expected["to acknowledge"] += 1
    if case["status"] == "routed":
        expected[f"to {case['partner']['address']}"] += 1
    elif case["decision"]["guess"]["disposition"] != "auto":
        expected[f"to {OPERATORS}"] += 1
    if case["status"] == "routed" and case["mentoring"]:
        if session is None:
            expected["from mentoring"] += 1  # there is to be one, whatever it says
        elif session["status"] == "booked":
            expected[f"to {session['meeting']['mentor']['address']}"] += 1
            expected[f"to {session['request']['mentee']['address']}"] += 1
        elif session["status"] == "held":
            expected[f"to {OPERATORS}"] += 1
    return expected


def _kind(arrival: Arrival, message_id: str) -> str:
    if arrival.in_reply_to == message_id:
        return "to acknowledge"
    return f"to {arrival.recipient}"


def _enquiry_of(run: Run, reference: str) -> str:
    return next(
        (
            document["_id"]
            for document in run.documents("intake", "messages")
            if document["state"]["reference"] == reference
        ),
        "",
    )


def dice(seed: int | None = None) -> random.Random:
    """Randomness whose seed is printed, so that a failure can be had again."""
    seed = random.randrange(1_000_000) if seed is None else seed
    print(f"seed {seed}")
    return random.Random(seed)
