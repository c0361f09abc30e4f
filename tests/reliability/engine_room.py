"""Two small services on the real engine, broker and database: what the guarantees are proved with."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import aio_pika
import httpx
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, SecretStr

from deploy.local.servers import Servers, Tenant, start
from shared.contracts.cloudevents import Person
from shared.contracts.intake import EnquiryReceived, ReceivedEnquiry
from shared.contracts.triage import MentoringRequested, RequestedMentoring
from shared.messaging.hears import Hears
from shared.messaging.topology import Topology, declare
from shared.service import Service
from shared.settings import ServiceSettings
from shared.store import Aggregates, Cause, Incoming

TOKEN = "for-tests-only"
TIERS = (("100ms", 100), ("200ms", 200))


class Tally(BaseModel):
    """An aggregate that only counts: an effect had twice would show."""

    model_config = ConfigDict(frozen=True)

    taken: int = 0
    claim: str = ""


@dataclass(frozen=True)
class Counted:
    state: Tally


def count(tally: Tally | None) -> Counted:
    return Counted(Tally(taken=(tally.taken if tally else 0) + 1))


def received(_: Counted, cause: Cause) -> list[EnquiryReceived]:
    data = ReceivedEnquiry(
        reference="MSP-7F3K-2Q",
        sender=Person(name="Ada", address="ada@library.example"),
        subject="Spinning out",
        text="We would like to become a mutual.",
        accepted_at=cause.now,
        via="smtp",
    )
    return [cause.event(EnquiryReceived, data)]


def requested(_: Counted, cause: Cause) -> list[MentoringRequested]:
    data = RequestedMentoring(
        reference="MSP-7F3K-2Q", kind="one-to-one", mentee=Person(address="ada@library.example")
    )
    return [cause.event(MentoringRequested, data)]


@dataclass
class EngineRoom:
    """`intake` says what `triage` hears; `triage` says what `mentoring` hears; `heard` is what arrived there."""

    tenant: Tenant
    log_level: Literal["info", "error"] = "error"
    heard: list[MentoringRequested] = field(default_factory=list)
    handle: Callable[[EnquiryReceived, Aggregates[Tally, Counted]], Awaitable[Any]] | None = None
    services: dict[str, Service] = field(default_factory=dict)
    kept: dict[str, Aggregates[Tally, Counted]] = field(default_factory=dict)
    apps: dict[str, FastAPI] = field(default_factory=dict)

    def hears(self, name: str) -> Hears:
        table = Hears(name)
        if name == "triage":

            @table(EnquiryReceived)
            async def take_enquiry(event: EnquiryReceived, tallies: Aggregates[Tally, Counted]) -> None:
                if self.handle:
                    await self.handle(event, tallies)
                else:
                    await tallies.apply(event, count)

        if name == "mentoring":

            @table(MentoringRequested)
            async def hear(event: MentoringRequested) -> None:
                self.heard.append(event)

        return table

    async def declare(self) -> None:
        tables = [self.hears(name) for name in ("intake", "triage", "mentoring")]
        await declare(self.tenant.admin_amqp_url, [Topology.of(table, TIERS) for table in tables])

    def build(self, name: str) -> FastAPI:
        settings = ServiceSettings(
            rabbitmq_url=SecretStr(self.tenant.amqp_url(name)),
            mongodb_url=SecretStr(self.tenant.mongodb_url(name)),
            operator_token=SecretStr(TOKEN),
            stop_within=5,
            log_level=self.log_level,
        )
        service = Service(self.hears(name), settings, tiers=TIERS)
        announce: Any = {"intake": received, "triage": requested}.get(name, lambda *_: [])
        tallies: Aggregates[Tally, Counted] = service.store.aggregates(
            "tallies", Tally, announce, claims=lambda tally: [tally.claim] if tally.claim else []
        )
        self.services[name], self.kept[name] = service, tallies
        self.apps[name] = service.app(provide={"tallies": tallies})
        return self.apps[name]

    @asynccontextmanager
    async def running(self, *names: str) -> AsyncIterator[None]:
        """Start the named services in this process, and stop them in good order."""
        async with AsyncExitStack() as stack:
            for name in reversed(names):
                app = self.build(name)
                await stack.enter_async_context(app.router.lifespan_context(app))
            yield

    async def channel(self, queue: str) -> Any:
        """The channel a queue is consumed on; to close it, acknowledge on it what was never delivered."""
        broker = self.services[queue.partition(".")[0]].broker
        [subscriber] = [each for each in broker.subscribers if cast("Any", each).queue.name == queue]
        return await cast("Any", subscriber)._queue_obj.channel.get_underlay_channel()

    def client(self, name: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.apps[name]),
            base_url=f"http://{name}",
            headers={"Authorization": f"Bearer {TOKEN}"},
        )

    async def accept(self, id: str) -> None:
        await self.kept["intake"].apply(Incoming(id, "mail", id), count, wait_published=False)

    async def put(
        self, body: bytes, message_id: str | None = None, kind: str = "enquiry.received.v1"
    ) -> None:
        """Publish bytes to intake's exchange as a stranger would, with the administrator's credentials."""
        async with (
            await aio_pika.connect(self.tenant.admin_amqp_url) as connection,
            connection.channel() as channel,
        ):
            exchange = await channel.get_exchange("intake")
            await exchange.publish(aio_pika.Message(body, message_id=message_id), kind)


@asynccontextmanager
async def engine_room(
    tenant: Tenant, log_level: Literal["info", "error"] = "error"
) -> AsyncIterator[EngineRoom]:
    room = EngineRoom(tenant, log_level)
    await room.declare()
    yield room


def stoppable(servers: Servers, folder: Path) -> Iterator[Servers]:
    """The servers themselves where they are ours to stop, else others."""
    if "given" not in (servers.rabbitmq.kind, servers.mongodb.kind):
        yield servers
        return
    with start(folder, keep=False, environment={}) as own:
        yield own
