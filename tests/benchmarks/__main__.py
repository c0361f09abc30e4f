"""End to end, from SMTP to the mail server, beside a plain version of the same chain in the same run; and how
many decisions a second one hot aggregate takes.

    make bench ARGS="--json FILE -n 2000"

Everything (broker, database, services, mail server, load generator) runs on this machine. Compare the ratio of
the two chains, which were measured side by side, and never the times of two runs: machines are noisy.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from deploy.local.pipeline import ADDRESS, PROGRAMME, ROOT, Pipeline
from deploy.local.servers import Servers, Tenant, free_port, start
from deploy.topology import service_names
from services.intake.arrival import arrived_mail
from services.intake.domain import accept
from services.intake.events import announce
from services.intake.mail import Ours
from services.triage.domain import Routed, route
from services.triage.programme import load_programme
from shared.contracts.intake import EnquiryReceived
from shared.store.cause import Cause
from tests.benchmarks import envelope, ways

PLAIN = ("notifications", "triage", "intake")
PROGRAMME_TIME = datetime(2018, 9, 24, 8, tzinfo=UTC)
MAILS_EACH = 2
QUIET_SECONDS = 20.0


def routable_messages() -> list[str]:
    """The demo's enquiries that lead to exactly two mails: an acknowledgement and a case for a partner."""
    programme = load_programme(PROGRAMME / "programme.yaml")
    bodies = []
    for line in (ROOT / "deploy/demo/enquiries-dev.jsonl").read_text().splitlines():
        enquiry = json.loads(line)
        message = EmailMessage()
        message["From"] = f'"{enquiry["from_name"]}" <{enquiry["from_address"]}>'
        message["To"] = ADDRESS
        message["Subject"] = enquiry["subject"]
        message["Date"] = "Mon, 24 Sep 2018 09:00:00 +0100"
        message["Message-ID"] = "<placeholder@load.example>"
        message.set_content(enquiry["body"])
        raw = message.as_bytes(policy=message.policy.clone(linesep="\r\n"))
        raw = b"\r\n".join(b"." + line if line.startswith(b".") else line for line in raw.split(b"\r\n"))
        outcome = accept(None, arrived_mail(raw, via="smtp", ours=Ours()), PROGRAMME_TIME)
        cause = Cause("bench", "bench", "bench", PROGRAMME_TIME, PROGRAMME_TIME)
        event, *_ = announce(outcome, cause)
        assert isinstance(event, EnquiryReceived)
        routed = route(None, event, programme, PROGRAMME_TIME)
        if isinstance(routed, Routed) and routed.state.mentoring is None:
            local, _, domain = enquiry["from_address"].partition("@")
            text = raw.decode().replace("<placeholder@load.example>", "@MESSAGE-ID@")
            bodies.append(text.replace(f"<{local}@{domain}>", f"<{local}.@WRITER@@{domain}>", 1))
    return bodies


class MailServer:
    """The counting sink, as a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port(None)
        self.report = folder / f"arrivals-{self.port}.jsonl"
        self.report.touch()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.mailsink", "--port", str(self.port), "--report", str(self.report)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
        )
        assert self.process.stderr is not None
        self.process.stderr.readline()  # it says when it listens

    def arrivals(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.report.read_text().splitlines()]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()


class Plain:
    """The plain chain's processes."""

    def __init__(self, tenant: Tenant, folder: Path, mail_server_port: int, offset: timedelta) -> None:
        self.smtp_port = free_port(None)
        self._environment = {
            **os.environ,
            "PLAIN_RABBITMQ_URL": tenant.admin_amqp_url,
            "PLAIN_MONGODB_URL": tenant.admin_mongodb_url,
            "PLAIN_DATABASE": f"{tenant.name}-plain",
            "PLAIN_SMTP_PORT": str(self.smtp_port),
            "PLAIN_MAIL_SERVER_PORT": str(mail_server_port),
            "PLAIN_PROGRAMME": str(PROGRAMME / "programme.yaml"),
            "PLAIN_CLOCK_OFFSET": str(offset.total_seconds()),
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._folder = folder

    def __enter__(self) -> "Plain":
        for name in PLAIN:  # those who hear first, so that no first event reaches nobody
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.benchmarks.plain", name],
                cwd=ROOT,
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=(self._folder / f"plain-{name}.log").open("wb"),
            )
            self.processes[name] = process
            assert process.stdout is not None
            if not process.stdout.readline():
                sys.exit((self._folder / f"plain-{name}.log").read_text())
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait()


def send(port: int, messages: Path, report: Path, n: int, rate: float) -> list[dict[str, Any]]:
    tag = f"{time.time_ns():x}"
    command = [
        "--port",
        port,
        "--messages",
        messages,
        "--report",
        report,
        "-n",
        n,
        "--rate",
        rate,
        "--tag",
        tag,
    ]
    subprocess.run([sys.executable, "-m", "tests.benchmarks.load", *map(str, command)], cwd=ROOT, check=True)
    return [json.loads(line) for line in report.read_text().splitlines()]


def wait_for_mails(server: MailServer, expected: int) -> None:
    """Until all have come, or none has for a while: the plain chain may lose some."""
    seen, since = 0, time.monotonic()
    while True:
        with server.report.open("rb") as report:
            count = sum(1 for _ in report)
        if count >= expected:
            return
        if count != seen:
            seen, since = count, time.monotonic()
        if time.monotonic() - since > QUIET_SECONDS:
            return
        time.sleep(0.1)


def figures(accepted: list[dict[str, Any]], arrivals: list[dict[str, Any]], started: float) -> dict[str, Any]:
    """Throughput, and the time from each acceptance to the handing over of each of its mails."""
    accepted_at = {message["message_id"]: message["at"] for message in accepted}
    message_of = {
        mail["reference"]: mail["in_reply_to"] for mail in arrivals if mail["in_reply_to"] in accepted_at
    }
    acknowledged, to_partner = [], []
    ends = []
    for mail in arrivals:
        message_id = message_of.get(mail["reference"])
        if message_id is None:
            continue
        ends.append(mail["at"])
        waited = (mail["at"] - accepted_at[message_id]) * 1000
        (acknowledged if mail["in_reply_to"] in accepted_at else to_partner).append(waited)
    return {
        "enquiries": len(accepted),
        "mails": len(ends),
        "lost": MAILS_EACH * len(accepted) - len(set(_distinct(arrivals, message_of))),
        "doubled": len(ends) - len(set(_distinct(arrivals, message_of))),
        "seconds": round(max(ends) - started, 2),
        "per_second": round(len(accepted) / (max(ends) - started), 1),
        "acknowledged_ms": percentiles(acknowledged),
        "to_partner_ms": percentiles(to_partner),
    }


def _distinct(arrivals: list[dict[str, Any]], known: dict[str, str]) -> Iterator[tuple[str, str]]:
    for mail in arrivals:
        if mail["reference"] in known:
            yield mail["reference"], mail["recipient"]


def percentiles(values: list[float]) -> dict[str, float]:
    cuts = quantiles(values, n=100, method="inclusive")
    return {"p50": round(median(values), 1), "p95": round(cuts[94], 1), "p99": round(cuts[98], 1)}


class Usage:
    """CPU seconds and peak memory of named processes between two moments."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._before = {name: self._cpu(process) for name, process in self._processes.items()}

    @staticmethod
    def _cpu(process: psutil.Process) -> float:
        spent = process.cpu_times()
        return float(spent.user + spent.system)

    def since(self) -> dict[str, dict[str, float]]:
        return {
            name: {
                "cpu_seconds": round(self._cpu(process) - self._before[name], 2),
                "peak_mib": round(_peak(process.pid) / 1024, 1),
            }
            for name, process in self._processes.items()
        }


def _peak(pid: int) -> int:
    """Peak resident memory in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


def groups(pipeline: Pipeline) -> dict[str, float]:
    """Average documents in one bulk write, for each kind of aggregate that wrote any."""
    sums: dict[str, dict[str, float]] = {}
    for service in pipeline.services.values():
        for line in httpx.get(f"{service.url}/metrics").text.splitlines():
            for part in ("sum", "count"):
                if line.startswith(f"commit_group_size_{part}{{"):
                    name = line.split('"')[1]
                    sums.setdefault(name, {})[part] = float(line.rsplit(" ", 1)[1])
    return {name: round(of["sum"] / of["count"], 1) for name, of in sums.items() if of["count"]}


@contextmanager
def tenant_of(servers: Servers, name: str) -> Iterator[Tenant]:
    tenant = servers.tenant(name, service_names())
    try:
        yield tenant
    finally:
        tenant.drop()


def measure(
    name: str, port: int, pids: dict[str, int], server: MailServer, folder: Path, messages: Path, n: int
) -> dict[str, Any]:
    """Warm up, then full rate, then half of the rate that was reached."""
    send(port, messages, folder / "warm.jsonl", max(50, n // 10), 0)
    wait_for_mails(server, MAILS_EACH * max(50, n // 10))
    result: dict[str, Any] = {}
    rate = 0.0
    for label in ("full_rate", "half_rate"):
        usage = Usage(pids)
        before, started = len(server.arrivals()), time.time()
        accepted = send(port, messages, folder / f"{name}-{label}.jsonl", n, rate)
        wait_for_mails(server, before + MAILS_EACH * n)
        result[label] = figures(accepted, server.arrivals()[before:], started)
        result[label]["processes"] = usage.since()
        rate = result[label]["per_second"] / 2
    return result


def run(n: int, say: Any) -> dict[str, Any]:
    offset = PROGRAMME_TIME - datetime.now(UTC)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        say("starting RabbitMQ and MongoDB")
        servers = stack.enter_context(start(folder / "servers", keep=False))
        messages = folder / "messages.json"
        bodies = routable_messages()
        messages.write_text(json.dumps(bodies))
        result: dict[str, Any] = {"n": n, "messages": len(bodies)}

        with tenant_of(servers, "plain") as tenant:
            server = MailServer(folder)
            with Plain(tenant, folder, server.port, offset) as plain:
                say(f"plain chain: {n} enquiries at full rate, then at half rate")
                pids = {name: process.pid for name, process in plain.processes.items()}
                result["plain"] = measure("plain", plain.smtp_port, pids, server, folder, messages, n)
            server.stop()

        with tenant_of(servers, "bench") as tenant:
            server = MailServer(folder)
            with Pipeline(
                tenant, folder / "logs", mail_server_port=server.port, clock_offset=offset
            ) as pipeline:
                say(f"our chain: {n} enquiries at full rate, then at half rate")
                pids = {
                    name: service.process.pid
                    for name, service in pipeline.services.items()
                    if service.process is not None
                }
                result["ours"] = measure("ours", pipeline.smtp_port, pids, server, folder, messages, n)
                result["average_commit_group"] = groups(pipeline)
            server.stop()
        with tenant_of(servers, "envelope") as tenant:
            say("one hot envelope")
            programme = load_programme(PROGRAMME / "programme.yaml")
            result["envelope"] = asyncio.run(envelope.measure(tenant, programme))
        ours, plain_figures = result["ours"]["full_rate"], result["plain"]["full_rate"]
        result["ratio"] = round(ours["per_second"] / plain_figures["per_second"], 2)
        return result


def show(result: dict[str, Any], console: Console) -> None:
    table = Table(title=f"{result['n']} enquiries end to end, two mails each")
    for column in (
        "",
        "enquiries/s",
        "acknowledged ms\np50 / p95 / p99",
        "to partner ms\np50 / p95 / p99",
        "lost",
        "doubled",
    ):
        table.add_column(column, justify="right" if column else "left")
    for chain in ("plain", "ours"):
        for label in ("full_rate", "half_rate"):
            row = result[chain][label]
            table.add_row(
                f"{chain}, {label.replace('_', ' ')}",
                str(row["per_second"]),
                " / ".join(str(value) for value in row["acknowledged_ms"].values()),
                " / ".join(str(value) for value in row["to_partner_ms"].values()),
                str(row["lost"]),
                str(row["doubled"]),
            )
    console.print(table)
    usage = Table(title="At full rate")
    for column in ("process", "CPU seconds", "CPU ms an enquiry", "peak MiB"):
        usage.add_column(column, justify="right" if column != "process" else "left")
    for chain in ("plain", "ours"):
        for name, used in result[chain]["full_rate"]["processes"].items():
            usage.add_row(
                f"{chain} {name}",
                str(used["cpu_seconds"]),
                str(round(used["cpu_seconds"] * 1000 / result["n"], 2)),
                str(used["peak_mib"]),
            )
    console.print(usage)
    console.print(f"average commit group: {result['average_commit_group']}")
    hot = result["envelope"]
    console.print(
        f"one hot envelope: [bold]{hot['per_second']}[/bold] decisions a second "
        f"({hot['decisions']} durable ones, {hot['at_once']} at once)"
    )
    console.print(f"ours / plain: [bold]{result['ratio']}[/bold] times the enquiries a second")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", type=int, default=1000, help="enquiries in each of the four measurements")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--ways", action="store_true", help="measure each way in by itself instead")
    given = parser.parse_args()
    console = Console()
    if given.ways:
        ways.run(given.n, routable_messages(), given.json, console)
        return
    result = run(given.n, lambda line: console.print(f"[dim]{line}[/dim]"))
    show(result, console)
    if given.json:
        given.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
