"""Runs the demo: servers, services, messages, the table; then waits to be told to stop."""

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from aio_pika.exceptions import AMQPError
from pymongo.errors import PyMongoError

from deploy.demo.directions import directions, write_operator_file
from deploy.demo.figures import Books, Standing
from deploy.demo.kept import DemoError, Folder, Kept, folder, new_token
from deploy.demo.messages import OPENING, Letter, letters
from deploy.demo.options import ROOT, Options
from deploy.demo.screen import Screen, Watch, london, shown
from deploy.demo.sending import send_all
from deploy.demo.stop import Stop, Stopped
from deploy.local.mailserver import mail_server
from deploy.local.pipeline import ADDRESS, HTTP_PORT, LMTP_PORT, SMTP_PORT, DidNotStart, Pipeline
from deploy.local.process import LOOPBACK, claim_port
from deploy.local.servers import Servers, ServersError, Tenant, start
from deploy.topology import service_names

MAIL_PORT = 2526
POLL_SECONDS = 0.15
PATIENCE_SECONDS = 120.0
LONGEST_SECONDS = 900.0
"""How long nothing at all may change, and how long it may last, before we stop waiting for the rest."""


@dataclass
class Running:
    """Everything that runs."""

    servers: Servers
    tenant: Tenant
    pipeline: Pipeline
    books: Books
    kept: Kept
    mail_port: int


def run(options: Options, stop: Stop) -> int:
    """The whole demo; returns the exit code. Whatever happens, nothing is left running."""
    screen = Screen()
    complete = False
    code = 1
    try:
        with folder(options.state, fresh=options.fresh) as (held, last):
            screen.title("Mutuals Support Programme: a rehearsal")
            with _running(held, last, options, stop, screen) as running:
                complete = _rehearse(running, held, options, stop, screen)
                code = 0 if complete else 1
                if not options.once:
                    directions(screen, running.pipeline, running.servers, running.books, held)
                    _stand_by(running.pipeline, stop, screen)
    except Stopped:
        pass
    except (DemoError, DidNotStart, ServersError) as error:
        screen.trouble(str(error))
        return 1
    except BrokenPipeError:
        screen.gone()
        return 1
    except (httpx.HTTPError, PyMongoError, AMQPError, OSError) as error:
        screen.trouble(
            f"A server went away: {type(error).__name__}: {error}. Its log is in {shown(options.state)}"
        )
        return 1
    if stop.asked and options.once and not complete:
        return 128 + stop.signal
    return 0 if stop.asked and not complete else code


@contextmanager
def _running(
    held: Folder, last: Kept | None, options: Options, stop: Stop, screen: Screen
) -> Iterator[Running]:
    """Everything started in the order in which it needs each other, and stopped in the reverse."""
    with ExitStack() as stack:
        with screen.busy("starting RabbitMQ and MongoDB") as busy, stop.telling(busy):
            servers = stack.enter_context(start(held.servers, keep=True, say=screen.started))
        stop.check()
        kept = _take_up(held, last, servers, options, screen)
        stack.callback(_say_end, held, options, stop, screen)
        tenant = servers.tenant(kept.tenant, service_names())
        stop.check()
        mail_port = stack.enter_context(_mail_server(held, screen))
        pipeline = Pipeline(
            tenant,
            held.logs,
            mail_server_port=mail_port,
            clock_offset=timedelta(seconds=kept.offset),
            operator_token=kept.operator_token,
            web_form_key=kept.web_form_key,
            reply_key=kept.reply_key,
        )
        stack.callback(pipeline.stop)
        _tell_taken_ports(pipeline, screen)

        def say(line: str) -> None:
            stop.check()
            screen.step(line)

        with screen.busy("starting the services") as busy, stop.telling(busy):
            pipeline.start(say)
        stop.check()
        operator_file = write_operator_file(held, pipeline)
        stack.callback(operator_file.unlink, missing_ok=True)
        books = Books(tenant)
        stack.callback(books.close)
        stack.callback(_say_stopping, stop, screen)
        yield Running(servers, tenant, pipeline, books, kept, mail_port)


def _say_stopping(stop: Stop, screen: Screen) -> None:
    if stop.hung_up:
        screen.gone()
    screen.say("\nStopping; what is in hand is finished first.")


def _say_end(held: Folder, options: Options, stop: Stop, screen: Screen) -> None:
    if stop.hung_up:
        screen.gone()
    again = "make demo" if options.state == (ROOT / ".local" / "demo") else "the same command"
    screen.say(f"Stopped. Data and mails stay in {shown(held.path)}; {again} goes on from there.")


def _take_up(held: Folder, last: Kept | None, servers: Servers, options: Options, screen: Screen) -> Kept:
    """What the last run left, or a new beginning: Monday morning, nothing sent."""
    where = ", ".join(_place(server.kind, server.url) for server in (servers.rabbitmq, servers.mongodb))
    if options.fresh:
        if last is not None and "given" in where:
            servers.tenant(last.tenant, service_names()).drop()
        screen.step("Starting anew: the last run's data is discarded" if last else "Starting anew")
        last = None
    if last is not None and last.servers != where:
        raise DemoError(
            f"The last run kept its data on other servers (RabbitMQ, MongoDB: {last.servers}; now: {where}). "
            "Let it have those again, or start anew with FRESH=1"
        )
    now = datetime.now(UTC)
    if last is not None:
        there = now + timedelta(seconds=last.offset)
        screen.step(f"Going on from the last run: it is {london(there)} in the programme")
        return last
    kept = Kept(
        run=new_token(),
        # On servers that others use too, the name says whose it is.
        tenant=f"demo-{secrets.token_hex(4)}" if "given" in where else "demo",
        servers=where,
        begun=now,
        offset=(OPENING.astimezone(UTC) - now).total_seconds(),
        operator_token=new_token(),
        web_form_key=new_token(),
        reply_key=new_token(),
    )
    held.write(kept)
    screen.step(f"The programme's clock starts at {london(OPENING)}")
    return kept


def _place(kind: str, url: str) -> str:
    return f"given at {urlsplit(url).netloc.rpartition('@')[2]}" if kind == "given" else kind


@contextmanager
def _mail_server(held: Folder, screen: Screen) -> Iterator[int]:
    """The local mail server; gives its port."""
    held.logs.mkdir(exist_ok=True)
    log = held.logs / "mailserver.log"
    port, claim = claim_port(MAIL_PORT)
    with claim:
        if port != MAIL_PORT:
            screen.note(f"port {MAIL_PORT} is taken; the mail server uses {port}")
        with mail_server(port, held.mail, log):
            screen.step(f"mail server is ready at {LOOPBACK}:{port}; mails are kept in {shown(held.mail)}")
            claim.close()
            yield port


def _tell_taken_ports(pipeline: Pipeline, screen: Screen) -> None:
    used = {
        "intake's SMTP": (SMTP_PORT, pipeline.smtp_port),
        "intake's LMTP": (LMTP_PORT, pipeline.lmtp_port),
    }
    for number, (name, service) in enumerate(pipeline.services.items()):
        used[name] = (HTTP_PORT + number, service.port)
    for what, (preferred, port) in used.items():
        if port != preferred:
            screen.note(f"port {preferred} is taken; {what} uses {port}")


def _rehearse(running: Running, held: Folder, options: Options, stop: Stop, screen: Screen) -> bool:
    """Send what was not accepted before, wait until all is done, show the table. False if not all is well."""
    stop.check()
    posted = letters(running.kept.run, ADDRESS)
    missing = frozenset(letter.message_id for letter in posted)
    missing -= running.books.accepted(missing)
    before = len(posted) - len(missing)
    if not missing:
        screen.step(
            f"All {len(posted)} messages were accepted before: none is sent again (FRESH=1 starts anew)"
        )
    elif before:
        screen.step(
            f"{before} of the {len(posted)} messages were accepted before; sending the other {len(missing)}"
        )
    else:
        screen.step(f"Sending {len(posted)} messages to {ADDRESS}, half over SMTP, half over LMTP")
    started = time.monotonic()
    unfinished: str | None = None
    try:
        with screen.watching(running.books.standing().accepted + len(missing)) as watch:
            _send(running, posted, missing, stop, watch)
            unfinished = _settle(running, stop, watch)
    finally:
        # A run in which there was nothing to do adds nothing.
        worked = running.kept.worked + (time.monotonic() - started if missing else 0.0)
        running.kept = running.kept.model_copy(update={"worked": worked})
        held.write(running.kept)
    left = running.tenant.queue_depths()
    figures = running.books.figures(held.mail, sum(left.values()), running.kept.worked)
    begun = running.kept.begun + timedelta(seconds=running.kept.offset)
    screen.table(figures, f"What became of {figures.accepted} messages since {london(begun)}")
    if options.report:
        _write_report(options.report, figures.as_json())
        screen.step(f"The same as JSON is in {options.report}")
    if unfinished:
        screen.trouble(unfinished)
    if figures.cases + figures.failed_messages < figures.accepted and not unfinished:
        unfinished = (
            f"{figures.accepted - figures.cases} accepted messages have no case; the logs are in {held.logs}"
        )
        screen.trouble(unfinished)
    return unfinished is None and not figures.failed_messages


def _write_report(file: Path, figures: dict[str, object]) -> None:
    draft = file.with_name(f"{file.name}.new")
    draft.write_text(json.dumps(figures, indent=2) + "\n")
    draft.replace(file)


def _send(running: Running, posted: list[Letter], missing: frozenset[str], stop: Stop, watch: Watch) -> None:
    """Send in a thread, so that there is progress to be seen meanwhile. Raises `DemoError`, `Stopped`."""
    errors: list[Exception] = []
    gone = threading.Event()

    def send() -> None:
        try:
            send_all(
                posted,
                missing,
                ADDRESS,
                smtp_port=running.pipeline.smtp_port,
                lmtp_port=running.pipeline.lmtp_port,
                go_on=lambda: not stop.asked and not gone.is_set(),
            )
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=send, name="sending", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            watch(running.books.standing())
            _check_services(running.pipeline)
            thread.join(POLL_SECONDS)
            stop.check()
    finally:
        gone.set()
        thread.join(5)
    if errors:
        raise errors[0]


def _settle(running: Running, stop: Stop, watch: Watch) -> str | None:
    """Wait until nothing is left to be done anywhere. Says what is left, if it does not come to that."""
    seen: tuple[Standing, dict[str, int]] | None = None
    started = since = time.monotonic()
    while True:
        stop.check()
        _check_services(running.pipeline)
        standing = running.books.standing()
        watch(standing)
        queues = {name: n for name, n in running.tenant.queue_depths().items() if n}
        if not queues and not standing.waiting:
            # Nothing is left only if nothing moved while we looked into one place after the other.
            after = running.books.standing()
            if after == standing:
                return None
        if seen != (standing, queues):
            seen, since = (standing, queues), time.monotonic()
        elif time.monotonic() - since > PATIENCE_SECONDS or time.monotonic() - started > LONGEST_SECONDS:
            left = [f"{n} in queue {name}" for name, n in queues.items()]
            left += [f"{n} {what}" for what, n in standing.waiting.items()]
            return (
                f"After {time.monotonic() - started:.0f} s this is left: {', '.join(left) or 'nothing'}. "
                "What is in a `retry` queue, and mail, is tried again by itself; the logs say what was wrong"
            )
        stop.wait(POLL_SECONDS)


def _check_services(pipeline: Pipeline) -> None:
    for service in pipeline.services.values():
        if not service.running():
            raise DemoError(f"{service.name} ended by itself. {service.last_words()}")


def _stand_by(pipeline: Pipeline, stop: Stop, screen: Screen) -> None:
    """Until somebody asks for an end."""
    told: set[str] = set()
    while not stop.asked:
        for name, service in pipeline.services.items():
            if name not in told and not service.running():
                told.add(name)
                screen.trouble(f"{name} ended by itself; the others go on. {service.last_words()}")
        try:
            stop.wait(1)
        except Stopped:
            return
