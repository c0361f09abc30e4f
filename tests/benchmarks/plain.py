"""The same chain as one would write it from the libraries' documentation: insert, then publish, per message.

It uses the services' own reading, rules, planning and composing, the same durability (`w: majority, j: true`,
quorum queues, persistent and confirmed publishes) and the same servers. What it lacks is what the engine adds:
an inbox, an outbox, grouped commits, pooled mail connections, retries. So it loses mail and doubles it; it is
here only to be measured beside the real one.

    python -m tests.benchmarks.plain intake|triage|notifications
"""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiosmtplib
from aiosmtpd.controller import UnthreadedController
from faststream import FastStream
from faststream.rabbit import ExchangeType, QueueType, RabbitBroker, RabbitExchange, RabbitQueue
from motor.motor_asyncio import AsyncIOMotorClient

from services.intake.arrival import arrived_mail
from services.intake.domain import Began, accept
from services.intake.events import announce as announce_received
from services.intake.mail import Ours
from services.notifications.compose import Letter, compose
from services.notifications.domain import Letterhead, create
from services.notifications.plan import plan
from services.triage.domain import route
from services.triage.events import announce as announce_routed
from services.triage.programme import load_programme
from shared.contracts.cloudevents import CloudEvent, Person
from shared.contracts.intake import EnquiryReceived
from shared.contracts.replies import Replies
from shared.contracts.triage import EnquiryHeld, EnquiryRouted
from shared.store.cause import Cause

OFFSET = timedelta(seconds=float(os.environ.get("PLAIN_CLOCK_OFFSET", "0")))
DURABLE = {"w": "majority", "journal": True, "tz_aware": True}


def now() -> datetime:
    return datetime.now(UTC) + OFFSET


def queue(name: str, key: str) -> RabbitQueue:
    return RabbitQueue(name, queue_type=QueueType.QUORUM, durable=True, routing_key=key)


def exchange(name: str) -> RabbitExchange:
    return RabbitExchange(name, type=ExchangeType.TOPIC, durable=True)


async def publish(broker: RabbitBroker, event: CloudEvent) -> None:
    await broker.publish(
        event.model_dump(mode="json", exclude_none=True),
        exchange=exchange(f"plain-{event.publisher()}"),
        routing_key=event.type,
        persist=True,
    )


async def intake(broker: RabbitBroker, database: Any) -> FastStream:
    class Handler:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            arrived = arrived_mail(envelope.content, via="smtp", ours=Ours(), mail_from=envelope.mail_from)
            outcome = accept(None, arrived, now())
            if not isinstance(outcome, Began):
                return "550 no"
            document = outcome.state.model_dump()
            await database.messages.insert_one({"_id": arrived.id, **document})
            cause = Cause(arrived.id, arrived.id, arrived.id, now(), now())
            for event in announce_received(outcome, cause):
                await publish(broker, event)
            return "250 OK"

    controller = UnthreadedController(
        Handler(),
        hostname="127.0.0.1",
        port=int(os.environ["PLAIN_SMTP_PORT"]),
        loop=asyncio.get_running_loop(),
    )
    app = FastStream(broker)

    @app.after_startup
    async def listen() -> None:
        controller.server_coro = controller._create_server()
        controller.server = await controller.server_coro

    return app


async def triage(broker: RabbitBroker, database: Any) -> FastStream:
    programme = load_programme(Path(os.environ["PLAIN_PROGRAMME"]))

    @broker.subscriber(queue("plain-triage", "enquiry.received.v1"), exchange("plain-intake"))
    async def take(event: EnquiryReceived) -> None:
        outcome = route(None, event, programme, now())
        await database.cases.insert_one({"_id": event.correlationid, **outcome.state.model_dump()})
        for said in announce_routed(
            outcome, Cause(event.id, event.correlationid, event.correlationid, now())
        ):
            await publish(broker, said)

    return FastStream(broker)


async def notifications(broker: RabbitBroker, database: Any) -> FastStream:
    letterhead = Letterhead(
        programme="Mutuals Support Programme",
        sender=Person(name="Mutuals Support Programme", address="enquiries@programme.example"),
        operators=Person(name="Operators", address="operators@programme.example"),
        replies=Replies(["plain"]),
    )
    port = int(os.environ["PLAIN_MAIL_SERVER_PORT"])

    async def write(event: CloudEvent) -> None:
        for draft in plan(event, letterhead):
            state = create(None, draft, now(), timedelta(minutes=1)).state
            await database.notifications.insert_one({"_id": draft.id, **state.model_dump()})
            letter = compose(state, letterhead)
            assert isinstance(letter, Letter)
            await aiosmtplib.send(
                letter.message,
                sender=letter.sender,
                recipients=[letter.recipient],
                hostname="127.0.0.1",
                port=port,
                start_tls=False,
            )
            await database.notifications.update_one({"_id": draft.id}, {"$set": {"status": "sent"}})

    @broker.subscriber(queue("plain-notifications-received", "enquiry.received.v1"), exchange("plain-intake"))
    async def received(event: EnquiryReceived) -> None:
        await write(event)

    @broker.subscriber(queue("plain-notifications-routed", "enquiry.routed.v1"), exchange("plain-triage"))
    async def routed(event: EnquiryRouted) -> None:
        await write(event)

    @broker.subscriber(queue("plain-notifications-held", "enquiry.held.v1"), exchange("plain-triage"))
    async def held(event: EnquiryHeld) -> None:
        await write(event)

    return FastStream(broker)


async def main(name: str) -> None:
    broker = RabbitBroker(os.environ["PLAIN_RABBITMQ_URL"], logger=None)
    client: Any = AsyncIOMotorClient(os.environ["PLAIN_MONGODB_URL"], **DURABLE)
    make = {"intake": intake, "triage": triage, "notifications": notifications}[name]
    app = await make(broker, client[os.environ["PLAIN_DATABASE"]])

    @app.after_startup
    async def say_ready() -> None:
        print(json.dumps({"ready": name}), flush=True)

    await app.run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
