"""The pipeline as real processes, after the first twenty of the demo's enquiries have gone through it."""

import asyncio
import json
import os
import smtplib
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import make_msgid
from pathlib import Path
from typing import Any

import aio_pika
import pymongo

from deploy.local.pipeline import ADDRESS, ROOT, Pipeline
from deploy.local.servers import Tenant
from deploy.topology import service_names
from tests.conftest import eventually
from tests.mailsink import MisbehavingServer

PROGRAMME_TIME = datetime(2018, 9, 24, 8, tzinfo=UTC)
COUNT = 20


@dataclass(frozen=True)
class SmallRun:
    """What went in (`enquiries`, by the demo's file), where it ran, and what its mail server took."""

    tenant: Tenant
    pipeline: Pipeline
    sink: MisbehavingServer
    folder: Path
    operator_file: Path
    enquiries: list[dict[str, Any]]
    database: "pymongo.MongoClient[dict[str, Any]]"

    def documents(self, service: str, collection: str) -> list[dict[str, Any]]:
        return list(self.database[self.tenant.database(service)][collection].find())

    def logs(self) -> dict[str, list[str]]:
        return {
            name: (self.folder / f"{name}.log").read_text().splitlines() for name in self.pipeline.services
        }

    async def cli(
        self, *arguments: str, module: str = "shared.cli", **variables: str
    ) -> "subprocess.CompletedProcess[str]":
        """`python -m shared.cli …`, or another, as an operator runs it."""
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env={
                **os.environ,
                "MUTUALS_OPERATOR_FILE": str(self.operator_file),
                "NO_COLOR": "1",
                "COLUMNS": "200",
                **variables,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    async def publish(self, exchange: str, body: bytes, headers: dict[str, Any], key: str = "") -> None:
        """As an administrator, past every check."""
        async with (
            await aio_pika.connect(self.tenant.admin_amqp_url) as connection,
            connection.channel() as channel,
        ):
            target = await channel.get_exchange(exchange)
            await target.publish(aio_pika.Message(body, headers=headers), key)

    def settled(self) -> bool:
        sent = self.documents("notifications", "notifications")
        return (
            len(self.documents("triage", "cases")) == COUNT
            and bool(sent)
            and all(document["state"]["status"] != "queued" for document in sent)
            and not any(self.tenant.queue_depths().values())
        )


def enquiries() -> list[dict[str, Any]]:
    lines = (ROOT / "deploy/demo/enquiries-dev.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[:COUNT]]


def send(port: int, sent: list[dict[str, Any]]) -> None:
    with smtplib.SMTP("127.0.0.1", port, local_hostname="gateway.example") as client:
        for enquiry in sent:
            message = EmailMessage()
            message["From"] = f"{enquiry['from_name']} <{enquiry['from_address']}>"
            message["To"] = ADDRESS
            message["Subject"] = enquiry["subject"]
            message["Date"] = "Mon, 24 Sep 2018 09:00:00 +0100"
            message["Message-ID"] = make_msgid(enquiry["id"], "gateway.example")
            message.set_content(enquiry["body"])
            client.send_message(message)


@asynccontextmanager
async def small_run(tenant: Tenant, folder: Path) -> AsyncIterator[SmallRun]:
    async with MisbehavingServer() as sink:
        pipeline = Pipeline(
            tenant,
            folder,
            mail_server_port=sink.port,
            clock_offset=PROGRAMME_TIME - datetime.now(UTC),
            extra={f"{name.upper()}_LOG_LEVEL": "debug" for name in service_names()},
        )
        operator_file = folder / "operator.json"
        urls = {name: service.url for name, service in pipeline.services.items()}
        operator_file.write_text(json.dumps({"token": pipeline.operator_token, "services": urls}))
        with pymongo.MongoClient[dict[str, Any]](tenant.admin_mongodb_url, tz_aware=True) as database:
            try:
                await asyncio.to_thread(pipeline.start)
                run = SmallRun(tenant, pipeline, sink, folder, operator_file, enquiries(), database)
                await asyncio.to_thread(send, pipeline.smtp_port, run.enquiries)
                await eventually(
                    lambda: asyncio.to_thread(run.settled), 90, "twenty enquiries all the way through"
                )
                yield run
            finally:
                await asyncio.to_thread(pipeline.stop)
