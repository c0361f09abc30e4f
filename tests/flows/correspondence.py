"""A running system with mail going both ways: what comes out is at hand, and can be answered as people and
machines answer."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import make_msgid
from pathlib import Path
from typing import Any

import aio_pika
import aiosmtplib
import pymongo

from deploy.local.pipeline import ADDRESS, PROGRAMME, ROOT, Pipeline
from deploy.local.servers import Tenant
from services.triage.domain import Routed, route
from services.triage.programme import load_programme
from shared.contracts.cloudevents import Person
from shared.contracts.intake import EnquiryReceived, ReceivedEnquiry
from shared.store import Cause
from tests.conftest import eventually
from tests.mailsink import Arrival, MisbehavingServer

PROGRAMME_TIME = datetime(2018, 9, 24, 8, tzinfo=UTC)

Responder = Callable[[EmailMessage, Arrival], Awaitable[None]]

REPORT = """\
From: Mail Delivery System <MAILER-DAEMON@mx.example>
To: {to}
Subject: Undelivered Mail Returned to Sender
Date: Mon, 24 Sep 2018 09:00:00 +0100
Message-ID: <bounce.{number}@mx.example>
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="=_b"

--=_b
Content-Type: text/plain; charset=us-ascii

I'm sorry to have to inform you that your message could not be delivered.

<{recipient}>: host mx.example said: 550 5.1.1 No such mailbox

--=_b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example

Final-Recipient: rfc822; {recipient}
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 No such mailbox

--=_b
Content-Type: text/rfc822-headers

Message-ID: {message_id}
To: {recipient}
Subject: a mail of ours

--=_b--
"""


@dataclass
class Correspondence:
    """`responders` answer by themselves what comes out to an address."""

    tenant: Tenant
    pipeline: Pipeline
    sink: MisbehavingServer
    database: "pymongo.MongoClient[dict[str, Any]]"
    operator_file: Path
    responders: dict[str, Responder] = field(default_factory=dict)
    answering: "set[asyncio.Task[None]]" = field(default_factory=set)

    # In

    async def send(
        self,
        sender: str,
        subject: str,
        text: str,
        *,
        to: str = ADDRESS,
        envelope: str | None = None,
        **headers: str,
    ) -> str:
        """Hand a mail to intake as a mail server does; returns its Message-ID."""
        message = EmailMessage(policy=policy.SMTP.clone(max_line_length=900))
        message["From"], message["To"], message["Subject"] = sender, to, subject
        message["Date"] = "Mon, 24 Sep 2018 09:00:00 +0100"
        message["Message-ID"] = headers.pop("Message_ID", make_msgid(domain="writer.example"))
        for name, value in headers.items():
            message[name.replace("_", "-")] = value
        message.set_content(text)
        await self.hand_over(message.as_bytes(), sender if envelope is None else envelope, to)
        return str(message["Message-ID"])

    async def hand_over(self, message: bytes, sender: str, recipient: str) -> None:
        client = aiosmtplib.SMTP(
            hostname="127.0.0.1",
            port=self.pipeline.smtp_port,
            local_hostname="writer.example",
            start_tls=False,
        )
        async with client:
            await client.mail(sender)
            await client.rcpt(recipient)
            await client.data(message)

    async def answer(self, mail: EmailMessage, sender: str, text: str, **headers: str) -> str:
        """As a person's mail program does."""
        quoted = "".join(f"> {line}\n" for line in text_of(mail).splitlines())
        return await self.send(
            sender,
            f"Re: {mail['Subject']}",
            f"{text}\n\nOn Monday somebody wrote:\n{quoted}",
            to=str(mail["Reply-To"] or mail["From"].addresses[0].addr_spec),
            In_Reply_To=str(mail["Message-ID"]),
            **headers,
        )

    async def bounce(self, mail: EmailMessage, recipient: str, number: int = 1, to: str = "") -> None:
        """As a mail server reports that `mail` could not be delivered (RFC 3464)."""
        to = to or str(mail["Reply-To"])
        report = REPORT.format(to=to, number=number, recipient=recipient, message_id=mail["Message-ID"])
        await self.hand_over(report.replace("\n", "\r\n").encode(), "", to)

    # Out

    def arrived(self, arrival: Arrival) -> None:
        if responder := self.responders.get(arrival.recipient):
            task = asyncio.get_running_loop().create_task(responder(parsed(arrival), arrival))
            self.answering.add(task)
            task.add_done_callback(self.answering.discard)

    def mails_to(self, recipient: str, containing: str = "") -> list[EmailMessage]:
        mails = [parsed(each) for each in self.sink.arrivals if each.recipient == recipient]
        return [mail for mail in mails if containing in f"{mail['Subject']}\n{text_of(mail)}"]

    async def mail_to(self, recipient: str, containing: str = "") -> EmailMessage:
        """The last such mail, once there is one."""
        await eventually(lambda: self.mails_to(recipient, containing), 30, f"a mail with {containing!r}")
        return self.mails_to(recipient, containing)[-1]

    # What was stored

    def states(self, service: str, collection: str, **query: Any) -> list[dict[str, Any]]:
        found = self.database[self.tenant.database(service)][collection].find(
            {f"state.{name}": value for name, value in query.items()}
        )
        return [document["state"] for document in found]

    async def state(self, service: str, collection: str, **query: Any) -> dict[str, Any]:
        """The one such state, once there is one."""
        await eventually(lambda: self.states(service, collection, **query), 30, f"{service}: {query}")
        [state] = self.states(service, collection, **query)
        return state

    async def settled(self) -> None:
        """Nobody answers any more, no queue holds anything, and no mail waits to be sent."""
        still = 0

        async def quiet() -> bool:
            nonlocal still
            busy = (
                self.answering
                or any((await asyncio.to_thread(self.tenant.queue_depths)).values())
                or self.states("notifications", "notifications", status="queued")
                or any(
                    self.database[self.tenant.database(service)][collection].count_documents(
                        {"outbox_since": {"$exists": True}}
                    )
                    for service, collection in (("intake", "messages"), ("triage", "cases"))
                )
            )
            still = 0 if busy else still + 1
            return still > 5  # between a queue and a store nothing can be seen; not five times in a row

        await eventually(quiet, 90, "the system to be quiet")

    async def cli(self, module: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """`python -m module …` as an operator runs it."""
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", module, *arguments, "--operator-file", str(self.operator_file)],
            cwd=ROOT,
            env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    @asynccontextmanager
    async def broker(self) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
        async with (
            await aio_pika.connect(self.tenant.admin_amqp_url) as connection,
            connection.channel() as channel,
        ):
            yield channel


def parsed(arrival: Arrival) -> EmailMessage:
    assert arrival.message is not None
    message = message_from_bytes(arrival.message, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def text_of(mail: EmailMessage) -> str:
    part = mail.get_body(("plain",))
    return str(part.get_content()) if part is not None else ""


@asynccontextmanager
async def correspondence(tenant: Tenant, folder: Path) -> AsyncIterator[Correspondence]:
    async with MisbehavingServer() as sink:
        pipeline = Pipeline(
            tenant,
            folder,
            mail_server_port=sink.port,
            clock_offset=PROGRAMME_TIME - datetime.now(UTC),
        )
        operator_file = folder / "operator.json"
        urls = {name: service.url for name, service in pipeline.services.items()}
        operator_file.write_text(json.dumps({"token": pipeline.operator_token, "services": urls}))
        with pymongo.MongoClient[dict[str, Any]](tenant.admin_mongodb_url, tz_aware=True) as database:
            running = Correspondence(tenant, pipeline, sink, database, operator_file)
            sink.on_arrival = running.arrived
            try:
                await asyncio.to_thread(pipeline.start)
                yield running
            finally:
                for service in pipeline.services.values():
                    await asyncio.to_thread(service.kill)
                await asyncio.to_thread(pipeline.stop)


def routable() -> tuple[str, str]:
    """Subject and text of an enquiry that goes to a partner by itself, and asks for no mentor."""
    programme = load_programme(PROGRAMME / "programme.yaml")
    for line in (ROOT / "deploy/demo/enquiries-dev.jsonl").read_text().splitlines():
        enquiry = json.loads(line)
        data = ReceivedEnquiry(
            reference="MSP-7F3K-2Q",
            sender=Person(address="jane@northfield.example"),
            subject=enquiry["subject"],
            text=enquiry["body"],
            accepted_at=PROGRAMME_TIME,
            via="smtp",
        )
        event = Cause("m", "m", "m", PROGRAMME_TIME).event(EnquiryReceived, data)
        routed = route(None, event, programme, PROGRAMME_TIME)
        if isinstance(routed, Routed) and routed.state.mentoring is None:
            return enquiry["subject"], enquiry["body"]
    raise AssertionError("none of the demo's enquiries is routed by itself")
