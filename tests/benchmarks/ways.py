"""Each way in by itself: how many messages a second become durable, in one intake process on this machine.

    make bench ARGS="--ways -n 1000"

The other services do not run: what intake says waits in their queues.
"""

import asyncio
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pymongo
from rich.console import Console
from rich.table import Table

from deploy.local.pipeline import ROOT, Pipeline, ServiceProcess
from deploy.local.servers import start
from deploy.topology import service_names
from services.intake.archives import Kept
from services.intake.arrival import arrived_mail
from services.intake.importing import bring
from services.intake.mail import Ours
from services.intake.sending import Gateway
from tests.benchmarks.load import send_all, written
from tests.dovecot import PASSWORD, dovecot

PIPES_AT_ONCE = 4
PIPE_SHARE = 20
"""A pipe is a process for each message: one in so many is enough to know."""


class Ways:
    """`bodies` have @MESSAGE-ID@ and @WRITER@ in them, and dots stuffed as for SMTP."""

    def __init__(
        self, pipeline: Pipeline, folder: Path, bodies: list[str], n: int, kept: Callable[[], int]
    ) -> None:
        self.pipeline, self.folder, self.bodies, self.n, self.kept = pipeline, folder, bodies, n, kept
        self.key_file = folder / "intake.key"
        self.key_file.write_text(pipeline.web_form_key)

    def messages(self, tag: str, n: int) -> list[bytes]:
        plain = [body.replace("\r\n..", "\r\n.") for body in self.bodies]
        ids = [f"<{tag}.{number}@load.example>" for number in range(n)]
        return [written(plain[i % len(plain)], id) for i, id in enumerate(ids)]

    def smtp(self) -> int:
        asyncio.run(send_all(self.pipeline.smtp_port, self.bodies, self.n, 0, 20, "smtp", io.StringIO()))
        return self.n

    def lmtp(self) -> int:
        asyncio.run(
            send_all(self.pipeline.lmtp_port, self.bodies, self.n, 0, 20, "lmtp", io.StringIO(), lmtp=True)
        )
        return self.n

    def http(self) -> int:
        held = [Kept(str(i), lambda raw=raw: raw) for i, raw in enumerate(self.messages("http", self.n))]
        bring(partial(Gateway, self.pipeline.services["intake"].url, self.key_file), held, None, told=str)
        return self.n

    def imported(self) -> int:
        box = self.folder / "old.mbox"
        with box.open("wb") as file:
            for raw in self.messages("import", self.n):
                file.write(b"From somebody Mon Sep 24 09:00:00 2018\n" + raw.replace(b"\r\n", b"\n") + b"\n")
        self._run("cli", "import", str(box), "--report", str(self.folder / "report"))
        return self.n

    def piped(self) -> int:
        messages = self.messages("pipe", max(1, self.n // PIPE_SHARE))
        with ThreadPoolExecutor(PIPES_AT_ONCE) as pool:
            list(pool.map(lambda raw: self._run("pipe", stdin=raw), messages))
        return len(messages)

    def imap(self) -> float:
        """Seconds a message, without the start of a process: from the first that is kept to the last."""
        with dovecot() as server:
            server.append("bench", *self.messages("imap", self.n))
            intake = self.pipeline.services["intake"]
            extra = {"INTAKE_IMAP_URL": server.url("bench"), "INTAKE_IMAP_PASSWORD": PASSWORD}
            with_imap = ServiceProcess(
                "intake", intake.port, {**intake.environment, **extra}, self.folder / "imap.log"
            )
            before = self.kept()
            intake.stop()
            with_imap.start()
            try:
                _until(lambda: self.kept() > before)
                started = time.perf_counter()
                _until(lambda: self.kept() >= before + self.n)
                return time.perf_counter() - started
            finally:
                with_imap.stop()

    def _run(self, module: str, *arguments: str, stdin: bytes = b"") -> None:
        subprocess.run(
            [sys.executable, "-m", f"services.intake.{module}", *arguments],
            input=stdin,
            check=True,
            capture_output=True,
            cwd=ROOT,
            env={
                **os.environ,
                "MUTUALS_INTAKE_URL": self.pipeline.services["intake"].url,
                "MUTUALS_INTAKE_KEY_FILE": str(self.key_file),
            },
        )


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not holds():
        if time.monotonic() > deadline:
            sys.exit("the mailbox was not emptied within five minutes")
        time.sleep(0.01)


def measure(n: int, bodies: list[str], say: Callable[[str], None]) -> dict[str, Any]:
    """Messages a second, by way in."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = stack.enter_context(start(folder / "servers", keep=False))
        tenant = servers.tenant("ways", service_names())
        stack.callback(tenant.drop)
        pipeline = Pipeline(tenant, folder / "logs", mail_server_port=1)
        pipeline.start(only=["intake"])
        stack.callback(pipeline.stop)
        client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(tenant.admin_mongodb_url)
        stack.enter_context(client)
        messages = client[tenant.database("intake")]["messages"]
        ways = Ways(pipeline, folder, bodies, n, lambda: messages.count_documents({}))
        rates: dict[str, Any] = {}
        started = time.perf_counter()
        for raw in ways.messages("read", n):
            arrived_mail(raw, via="smtp", ours=Ours())
        rates["reading alone"] = n / (time.perf_counter() - started)
        for name, way in (
            ("SMTP", ways.smtp),
            ("LMTP", ways.lmtp),
            ("HTTP", ways.http),
            ("import", ways.imported),
            ("pipe", ways.piped),
        ):
            say(name)
            before, started = ways.kept(), time.perf_counter()
            sent = way()
            rates[name] = sent / (time.perf_counter() - started)
            assert ways.kept() == before + sent, f"{name}: {ways.kept() - before} of {sent} are kept"
        say("IMAP")
        rates["IMAP"] = n / ways.imap()
        return {name: round(rate, 1) for name, rate in rates.items()}


def show(result: dict[str, Any], console: Console) -> None:
    table = Table(title="Each way in by itself")
    table.add_column("way")
    table.add_column("messages/s", justify="right")
    for name, rate in result.items():
        table.add_row(name, str(rate))
    console.print(table)


def run(n: int, bodies: list[str], report: Path | None, console: Console) -> None:
    result = measure(n, bodies, lambda line: console.print(f"[dim]{line}[/dim]"))
    show(result, console)
    if report:
        report.write_text(json.dumps(result, indent=2))
