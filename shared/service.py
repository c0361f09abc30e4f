"""Puts one service together: broker, store, handlers and HTTP, started in the order that loses nothing."""

import asyncio
import gc
import inspect
import logging
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from types import FrameType
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

import structlog
import uvicorn
from aio_pika.exceptions import AMQPError
from fastapi import APIRouter, FastAPI
from faststream.asgi import make_asyncapi_asgi
from faststream.middlewares import AckPolicy
from faststream.rabbit import Channel, ExchangeType, RabbitBroker, RabbitExchange, RabbitMessage, RabbitQueue
from faststream.rabbit.prometheus import RabbitPrometheusMiddleware
from faststream.specification import AsyncAPI
from prometheus_client import REGISTRY
from starlette.routing import Route

from shared import logs, metrics
from shared.clock import clock
from shared.contracts.cloudevents import CloudEvent
from shared.messaging.delivery import Deliveries
from shared.messaging.failed import FailedMessages
from shared.messaging.hears import Hears, Subscription
from shared.messaging.mending import mend_channels
from shared.messaging.publisher import BrokerPublisher
from shared.messaging.topology import RETRY_TIERS, Topology
from shared.operators import operator_routes
from shared.settings import ServiceSettings, settings_from_environment
from shared.store.database import Store
from shared.store.driver import reason
from shared.supervise import stop, supervise

log = structlog.get_logger()

HEARTBEAT, CHECK_SECONDS = 20, 2.0
SWITCH_SECONDS = 0.0005
COLLECT_AFTER = 20_000  # objects; a message makes some thousands, nearly all of them gone without a collector


class Service:
    """One service's parts. Make it inside a running event loop, add to it, then take its `app`."""

    def __init__(
        self,
        hears: Hears,
        settings: ServiceSettings,
        *,
        says: Sequence[type[CloudEvent]] = (),
        tiers: Sequence[tuple[str, int]] = RETRY_TIERS,
    ) -> None:
        logs.configure(hears.service, settings)
        self.name = hears.service
        self.settings = settings
        self.clock = clock(timedelta(seconds=settings.clock_offset))
        self.store = Store(settings.mongodb_url.get_secret_value(), self.name, self.clock)
        self.topology = Topology.of(hears, tiers)
        self.failed = FailedMessages(self.store, self.topology, self.clock)
        self._hears = hears
        self._says = says
        self.broker = RabbitBroker(
            _with_heartbeat(settings.rabbitmq_url.get_secret_value()),
            default_channel=Channel(publisher_confirms=True, on_return_raises=True),
            graceful_timeout=settings.stop_within,
            reconnect_interval=1.0,
            apply_types=False,  # handlers take the decoded event and nothing else
            logger=logging.getLogger("mutuals.broker"),
        )
        self.publisher = BrokerPublisher(self.broker)
        self._mending: asyncio.Task[None] | None = None
        # The first middleware is the outermost: FastStream's metrics see a handler fail before we forgive it.
        self.broker.add_middleware(Deliveries(self.topology, self.publisher, self.clock))
        self.broker.add_middleware(RabbitPrometheusMiddleware(registry=REGISTRY, app_name=self.name))

    def app(
        self,
        *,
        provide: dict[str, Any],
        routes: Sequence[APIRouter] = (),
        running: Sequence[AbstractAsyncContextManager[Any]] = (),
    ) -> FastAPI:
        """The ASGI application.

        `provide` holds what handlers take by name. `running` are entered once messages can flow, and left
        first, in reverse: a way in stops before what it feeds. Raises `TypeError` for a handler that takes
        something nobody provides.
        """
        for subscription in self._hears.subscriptions:
            self._subscribe(subscription, provide)
        self._drain_dead_letters()
        for kind in self._says:
            self.broker.publisher(
                routing_key=kind.event_type(),
                exchange=RabbitExchange(self.name, ExchangeType.TOPIC, declare=False),
                schema=kind,
                persist=True,
            )

        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            await self._start()
            try:
                async with AsyncExitStack() as stack:
                    for part in running:
                        await stack.enter_async_context(part)
                    log.info("service_started")
                    _spare_the_collector()
                    yield
                    log.info("service_stopping")
            finally:
                await self._stop()

        app = FastAPI(title=f"mutuals-support {self.name}", version="1", lifespan=lifespan)
        for router in (operator_routes(self), *routes):
            app.include_router(router)
        specification = AsyncAPI(
            self.broker, title=f"mutuals-support {self.name}", version="1", schema_version="3.0.0"
        )

        @app.get("/asyncapi.json", include_in_schema=False)
        def asyncapi() -> Any:
            return specification.to_specification().to_jsonable()

        app.router.routes.append(Route("/asyncapi", make_asyncapi_asgi(specification, try_it_out_path=None)))
        return app

    def _subscribe(self, subscription: Subscription, provide: dict[str, Any]) -> None:
        parameters = list(inspect.signature(subscription.handler).parameters)[1:]
        if missing := [name for name in parameters if name not in provide]:
            raise TypeError(
                f"{subscription.handler.__name__} takes {missing}, which {self.name} does not provide"
            )
        given = {name: provide[name] for name in parameters}
        age = metrics.enquiry_age_seconds.labels(subscription.queue)
        kind = subscription.kind

        async def decode(msg: RabbitMessage) -> CloudEvent:
            return kind.model_validate_json(msg.body)  # the one pydantic pass of a message

        async def take(event: CloudEvent) -> None:
            await subscription.handler(event, **given)
            if event.acceptedat:
                age.observe((self.clock() - event.acceptedat).total_seconds())

        take.__name__ = subscription.handler.__name__
        take.__doc__ = subscription.handler.__doc__
        take.__annotations__["event"] = kind
        self.broker.subscriber(
            RabbitQueue(subscription.queue, routing_key=kind.event_type(), declare=False),
            RabbitExchange(kind.publisher(), ExchangeType.TOPIC, declare=False),
            channel=Channel(prefetch_count=subscription.prefetch),
            ack_policy=AckPolicy.MANUAL,
            decoder=decode,
            no_reply=True,
            title=subscription.queue,
        )(take)

    def _drain_dead_letters(self) -> None:
        async def decode(msg: RabbitMessage) -> RabbitMessage:
            return msg  # whatever its body is: it may be here because nobody could read it

        async def keep_failed_message(message: Any) -> None:
            """Keeps a message that could not be handled until an operator replays or discards it."""
            await self.failed.drain(message)

        self.broker.subscriber(
            RabbitQueue(self.topology.dead, declare=False),
            RabbitExchange(self.topology.dead, ExchangeType.FANOUT, declare=False),
            channel=Channel(prefetch_count=50),
            ack_policy=AckPolicy.MANUAL,
            decoder=decode,
            no_reply=True,
            title=self.topology.dead,
        )(keep_failed_message)

    async def _start(self) -> None:
        await self.store.start(self.publisher)
        while True:
            try:
                await self.broker.start()
                self._mending = supervise("channels", partial(mend_channels, self.broker))
                return
            except (AMQPError, OSError) as error:
                # The broker is away, or the topology has not been declared yet.
                log.warning("waiting_for_broker", error=f"{type(error).__name__}: {error}"[:300])
                await self.broker.stop()
            await asyncio.sleep(1)

    async def _stop(self) -> None:
        """Within `stop_within` seconds: what hangs longer comes back to another process. A database that is
        away costs the driver three more, in which it tries to end its sessions there."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self.settings.stop_within
        await stop(self._mending)
        await asyncio.gather(*(subscriber.stop() for subscriber in self.broker.subscribers))
        await self.store.flush(max(until - loop.time(), 0.5))
        # The broker's own stop would wait for the same handlers once more.
        self.broker.config.broker_config.graceful_timeout = None
        await self.broker.stop()
        await self.store.stop()
        log.info("service_stopped")

    async def check(self) -> dict[str, str]:
        """Ask the broker and the database something only they can answer; "ok", or what went wrong."""

        results = await asyncio.gather(self._ask_broker(), self.store.ping(), return_exceptions=True)
        return {
            # Not an error's own words, which name hosts: this is answered to anybody.
            part: "ok"
            if result is None
            else str(result)
            if type(result) is ConnectionError
            else reason(result)
            for part, result in zip(("broker", "database"), results, strict=True)
        }

    async def _ask_broker(self) -> None:
        """Open a channel and close it: a round trip that nothing answers from memory.

        A channel of its own, because a question given up closes the channel it was asked on. Raises
        `ConnectionError` where a queue has lost its consumer, which no question to the broker would show.
        """
        async with asyncio.timeout(CHECK_SECONDS):
            connection = self.broker._connection
            if connection is None or connection.transport is None:
                raise ConnectionError("not connected")
            channel = await connection.transport.connection.channel(publisher_confirms=False)
            await channel.close()
        for subscriber in self.broker.subscribers:
            await _ask_consumer(subscriber)


async def _ask_consumer(subscriber: Any) -> None:
    queue = subscriber._queue_obj
    if queue is not None and not queue.channel.is_closed:
        channel = await queue.channel.get_underlay_channel()
        if subscriber._consumer_tag in channel.consumers:
            return
    raise ConnectionError(f"nobody takes from {subscriber.queue.name}")


def _spare_the_collector() -> None:
    """What a start makes lives as long as the process. Looked at in every collection it was a tenth of all work."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 50)


def _with_heartbeat(url: str) -> str:
    """A connection to a broker that has gone without a word is given up after a minute, not after three."""
    parts = urlsplit(url)
    if "heartbeat" in parse_qs(parts.query):
        return url
    return urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, f"heartbeat={HEARTBEAT}")))))


def run(factory: str, kind: type[ServiceSettings]) -> None:
    """Serve `module:function` until SIGTERM or SIGINT."""
    settings = settings_from_environment(kind)
    # Motor works in threads, and a thread that has its answer waits for the event loop to let go of the
    # interpreter: by default up to 5 ms, several times a commit.
    sys.setswitchinterval(SWITCH_SECONDS)
    # When it has stopped, uvicorn raises the signal once more: to have done as told is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = _Server(
        uvicorn.Config(
            factory,
            factory=True,
            host=settings.http_host,
            port=settings.http_port,
            loop="uvloop",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=max(int(settings.stop_within), 1),
        )
    )
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(3)


class _Server(uvicorn.Server):
    """uvicorn hears no signal until it has started, and a service may wait long for its servers before that."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.started:
            sys.exit(0)  # nothing is in hand yet
        super().handle_exit(sig, frame)


__all__ = ["Service", "run"]
