"""`make corpus DIR=folder REPORT=file`: every file of a folder through the running programme, and what became of it.

    python -m deploy.corpus FOLDER --report report.jsonl

Each line of the report is one file: its `path`, the `outcome` (enquiry, follow-up, bounce, automatic, held,
duplicate or refused) with its `reason`, what was read of it, and `milliseconds` from sending it to the durable
yes. It ends with 1 where a message was lost or a service did not live through it.
"""

import argparse
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from statistics import quantiles
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table

from deploy.demo.figures import Books, Standing
from deploy.demo.messages import OPENING
from deploy.local.mailserver import mail_server
from deploy.local.pipeline import ADDRESS, DidNotStart, Pipeline, ServiceProcess
from deploy.local.process import ServersError, claim_port
from deploy.local.servers import Tenant, start
from deploy.topology import service_names
from services.intake.archives import Kept, one
from services.intake.importing import bring
from services.intake.sending import Gateway, NotNow

FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
KNOWN = re.compile(
    rb"^(?:from|to|cc|subject|date|received|message-id|return-path|mime-version|content-type|delivered-to|reply-to"
    rb"|x-[a-z-]+):",
    re.IGNORECASE | re.MULTILINE,
)
MARKUP = re.compile(rb"<(?:!doctype|\?xml|html|head|body|div|p|br|table|span)\b", re.IGNORECASE)
PATIENCE_SECONDS = 120.0
"""How long nothing at all may change before what is left is taken for lost."""


def as_message(content: bytes, name: str) -> bytes:
    """The file as it is where it has a header block; else a message with the file as its body."""
    block = re.split(rb"\r?\n\r?\n", content.lstrip(), maxsplit=1)[0]
    known = len(KNOWN.findall(block))
    if known >= 3 or (known and FIELD.match(block)):
        return content
    kind = "html" if MARKUP.search(content[:4_000]) else "plain"
    try:
        content.decode()
        charset = "utf-8"
    except UnicodeDecodeError:
        charset = "windows-1252"
    head = (
        f"From: Somebody <{sha256(name.encode('utf-8', 'replace')).hexdigest()[:12]}@corpus.example>\r\n"
        f"To: {ADDRESS}\r\nSubject: An enquiry\r\nDate: Mon, 24 Sep 2018 09:00:00 +0100\r\n"
        f"Message-ID: <{sha256(content + name.encode('utf-8', 'replace')).hexdigest()[:32]}@corpus.example>\r\n"
        f"MIME-Version: 1.0\r\nContent-Type: text/{kind}; charset={charset}\r\n"
        "Content-Transfer-Encoding: 8bit\r\n\r\n"
    )
    return head.encode() + content


def files(folder: Path) -> Iterator[Kept]:
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts):
        name = str(file.relative_to(folder))
        yield Kept(name, partial(_wrapped, file, name))


def _wrapped(file: Path, name: str) -> bytes:
    return as_message(one(file), name)


def run(folder: Path, report: Path, console: Console) -> list[str]:
    """Everything; returns what is wrong, and nothing where all is well."""
    if next(files(folder), None) is None:
        return [f"there is no file in {folder}"]
    report.touch()  # where that cannot be, it is known now and not after all the work
    with ExitStack() as stack:
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mutuals-corpus-")))
        console.print("[dim]starting RabbitMQ, MongoDB and the services[/dim]")
        servers = stack.enter_context(start(state / "servers", keep=False))
        tenant = servers.tenant(f"corpus{sha256(str(state).encode()).hexdigest()[:8]}", service_names())
        stack.callback(tenant.drop)
        return send_through(tenant, folder, report, state, console)


def send_through(tenant: Tenant, folder: Path, report: Path, state: Path, console: Console) -> list[str]:
    """Start the services on this tenant's servers, send every file of the folder, and wait until all is done."""
    messages = list(files(folder))
    with ExitStack() as stack:
        port, claim = claim_port(2526)
        claim.close()
        stack.enter_context(mail_server(port, state / "mail", state / "mailserver.log"))
        offset = OPENING.astimezone(UTC) - datetime.now(UTC)
        pipeline = stack.enter_context(
            Pipeline(tenant, state / "logs", mail_server_port=port, clock_offset=offset)
        )
        books = Books(tenant)
        stack.callback(books.close)
        started = time.monotonic()
        lines = _send(messages, pipeline, state, report, console)
        sent = time.monotonic() - started
        with console.status("waiting until nothing is left to do"):
            unfinished = _settle(books, tenant, pipeline)
        show(lines, sent, time.monotonic() - started, pipeline, console)
        return unfinished + _wrong(messages, lines, books, pipeline)


def _send(
    messages: list[Kept], pipeline: Pipeline, state: Path, report: Path, console: Console
) -> list[dict[str, Any]]:
    """The lines of the report, without their texts."""
    key_file = state / "intake.key"
    key_file.write_text(pipeline.web_form_key)
    lines: list[dict[str, Any]] = []
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with (
        Progress(*columns, console=console, disable=not console.is_terminal) as bar,
        report.open("w") as file,
    ):
        task = bar.add_task("sending", total=len(messages))

        def told(line: dict[str, Any]) -> None:
            lines.append({key: value for key, value in line.items() if not key.endswith("_text")})
            bar.advance(task)

        bring(partial(Gateway, pipeline.services["intake"].url, key_file), messages, file, told=told)
    return lines


def _settle(books: Books, tenant: Tenant, pipeline: Pipeline) -> list[str]:
    """Wait until nothing is left to be done anywhere; says what is left where it does not come to that."""
    seen: tuple[Standing, dict[str, int]] | None = None
    since = time.monotonic()
    while all(service.running() for service in pipeline.services.values()):
        standing = books.standing()
        queues = {name: depth for name, depth in tenant.queue_depths().items() if depth}
        if not queues and not standing.waiting and books.standing() == standing:
            return []
        if seen != (standing, queues):
            seen, since = (standing, queues), time.monotonic()
        elif time.monotonic() - since > PATIENCE_SECONDS:
            left = queues | standing.waiting
            return [f"{count} left: {what}" for what, count in left.items()]
        time.sleep(0.25)
    return []


def _wrong(messages: list[Kept], lines: list[dict[str, Any]], books: Books, pipeline: Pipeline) -> list[str]:
    """What there is to complain of, in sentences."""
    standing = books.standing()
    ended = [name for name, service in pipeline.services.items() if not service.running()]
    told = {line["path"] for line in lines}
    kept = books.message_ids()
    found = [f"{name} ended by itself; {pipeline.services[name].last_words()}" for name in ended]
    found += [f"{each.path} is not in the report" for each in messages if each.path not in told]
    found += [
        f"{line['path']} was accepted and is not kept"
        for line in lines
        if line["outcome"] != "refused" and line["id"] not in kept
    ]
    enquiries = sum(line["outcome"] == "enquiry" for line in lines)
    if standing.decided < enquiries:
        found.append(f"{enquiries - standing.decided} enquiries have no case")
    if failed := books.failed_messages():
        found.append(f"{failed} messages failed in a service")
    return found


def show(
    lines: list[dict[str, Any]], sent: float, settled: float, pipeline: Pipeline, console: Console
) -> None:
    table = Table(title=f"{len(lines)} files")
    table.add_column("outcome")
    for column in ("files", "bounce", "with recipient", "automated", "no answer", "attached"):
        table.add_column(column, justify="right")
    for outcome, count in Counter(line["outcome"] for line in lines).most_common():
        of = [line for line in lines if line["outcome"] == outcome]
        flags = [
            sum(bool(line[key]) for line in of)
            for key in ("is_bounce", "failed_recipients", "is_automated", "suppress_reply", "attachments")
        ]
        table.add_row(outcome, str(count), *map(str, flags))
    console.print(table)
    times = sorted(line["milliseconds"] for line in lines)
    middle, late = (
        (times[0], times[-1]) if len(times) < 2 else (quantiles(times)[1], quantiles(times, n=100)[98])
    )
    console.print(
        f"accepted in {sent:.1f} s, {len(lines) / sent:.0f} a second; all done after {settled:.1f} s; "
        f"each in {middle:.0f} ms (median), {late:.0f} (99 of 100), {times[-1]:.0f} (slowest)"
    )
    peaks = ", ".join(f"{name} {peak_mib(service)}" for name, service in pipeline.services.items())
    console.print(f"peak memory in MiB: {peaks}")


def peak_mib(service: ServiceProcess) -> str:
    try:
        status = Path(f"/proc/{service.process.pid if service.process else 0}/status").read_text()
    except OSError:
        return "?"
    return str(int(status.partition("VmHWM:")[2].split()[0]) >> 10)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make corpus", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--report", type=Path, default=Path("corpus.jsonl"))
    given = parser.parse_args()
    console = Console()
    try:
        problems = run(given.folder.expanduser(), given.report.expanduser(), console)
    except (DidNotStart, ServersError, NotNow, OSError) as error:
        problems = [str(error)]
    except KeyboardInterrupt:
        return 130
    for problem in problems[:20]:
        console.print(f"wrong: {problem}", style="red", markup=False)
    if not problems:
        console.print(f"Nothing was lost; the report is {given.report}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
