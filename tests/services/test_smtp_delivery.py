"""The mailer against a mail server that misbehaves, over real SMTP on loopback: what is counted at the server
must match what the mailer said."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from services.notifications.domain import Accepted, Broken, Refused
from services.notifications.smtp import Limits, Mailer, Result, Server
from tests.mailsink import MisbehavingServer, Stage

SENDER = "enquiries@msp.example"
RECIPIENT = "r.beg@turningcorner.example"
QUICK = Limits(connect=2, attempt=3)


def mail(number: int = 1, text: str = "Hello") -> bytes:
    return f"Message-ID: <n.{number}@msp.example>\r\nSubject: MSP-7F3K-2Q\r\n\r\n{text}\r\n".encode()


@pytest.fixture
async def server() -> AsyncIterator[MisbehavingServer]:
    async with MisbehavingServer() as server:
        yield server


@pytest.fixture
async def mailer(server: MisbehavingServer) -> AsyncIterator[Mailer]:
    async with Mailer(Server("127.0.0.1", server.port), QUICK) as mailer:
        yield mailer


async def send(mailer: Mailer, number: int = 1, recipient: str = RECIPIENT) -> Result:
    return await mailer.send(mail(number), SENDER, recipient)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(3):
        while not condition():  # noqa: ASYNC110 - nothing announces what a socket has not yet been told
            await asyncio.sleep(0.01)


async def test_mail_is_accepted_once_as_it_was_written(server: MisbehavingServer, mailer: Mailer) -> None:
    message = (
        mail(text=".\r\n..two\r\nFrom here\r\n.") + b"." * 3000 + b"\r\n" + "é".encode() * 70_000 + b"\r\n"
    )
    assert await mailer.send(message, SENDER, RECIPIENT) == Accepted("250 2.0.0 Kept")
    (arrival,) = server.arrivals
    assert arrival.message == message
    assert (arrival.message_id, arrival.reference) == ("<n.1@msp.example>", "MSP-7F3K-2Q")
    assert (arrival.sender, arrival.recipient) == (SENDER, RECIPIENT)


async def test_many_mails_share_few_connections(server: MisbehavingServer, mailer: Mailer) -> None:
    results = await asyncio.gather(*(send(mailer, number) for number in range(200)))
    assert all(isinstance(result, Accepted) for result in results)
    assert set(server.by_message_id.values()) == {1}
    assert len(server.by_message_id) == 200
    assert server.connections <= QUICK.connections


async def test_connection_is_used_for_its_share_and_no_longer(server: MisbehavingServer) -> None:
    async with Mailer(Server("127.0.0.1", server.port), Limits(connections=1, mails=5)) as mailer:
        for number in range(12):
            assert isinstance(await send(mailer, number), Accepted)
    assert server.connections == 3


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA", "END"])
async def test_4xx_at_any_stage_is_temporary_and_the_connection_stays_usable(
    server: MisbehavingServer, mailer: Mailer, stage: Stage
) -> None:
    server.busy, server.busy_stage = 2, stage
    for _ in range(2):
        result = await send(mailer)
        assert result == Refused(True, 451, "451 4.3.2 Busy, try again later")
    assert isinstance(await send(mailer), Accepted)
    assert server.by_message_id == {"<n.1@msp.example>": 1}
    assert server.connections == 1


async def test_one_refused_recipient_does_not_touch_the_others(
    server: MisbehavingServer, mailer: Mailer
) -> None:
    server.refused["gone@example.org"] = "550 5.1.1 No such user"
    recipients = ["a@example.org", "gone@example.org", "b@example.org"]
    results = await asyncio.gather(*(send(mailer, number, to) for number, to in enumerate(recipients)))
    assert [type(result) for result in results] == [Accepted, Refused, Accepted]
    assert results[1] == Refused(False, 550, "550 5.1.1 No such user")
    assert server.by_recipient == {"a@example.org": 1, "b@example.org": 1}


async def test_message_refused_as_a_whole_is_final(server: MisbehavingServer, mailer: Mailer) -> None:
    server.refuse_end = "554 5.7.1 Looks like spam"
    assert await send(mailer) == Refused(False, 554, "554 5.7.1 Looks like spam")
    assert server.arrivals == []


async def test_greylisting_server_takes_the_second_try(server: MisbehavingServer, mailer: Mailer) -> None:
    server.greylist = True
    assert isinstance(await send(mailer), Refused)
    assert isinstance(await send(mailer), Accepted)


@pytest.mark.parametrize("kept", [True, False])
async def test_connection_dropped_after_the_message_is_uncertain(
    server: MisbehavingServer, mailer: Mailer, kept: bool
) -> None:
    server.drops, server.drop_keeps = 1, kept
    result = await send(mailer)
    assert isinstance(result, Broken)
    assert result.uncertain
    assert isinstance(await send(mailer), Accepted)
    # Where the server had kept it there are two, but with one Message-ID.
    assert server.by_message_id == {"<n.1@msp.example>": 2 if kept else 1}


async def test_slow_server_is_waited_for(server: MisbehavingServer, mailer: Mailer) -> None:
    server.slow = 0.3
    assert isinstance(await send(mailer), Accepted)


async def test_server_slower_than_our_patience_is_uncertain(server: MisbehavingServer) -> None:
    server.slow = 5
    async with Mailer(Server("127.0.0.1", server.port), Limits(attempt=0.3)) as mailer:
        result = await send(mailer)
        assert result == Broken(
            "Time ran out after 0.3 s while waiting for the answer to the message", uncertain=True
        )
        server.slow = 0
        assert isinstance(await send(mailer), Accepted)
    assert server.connections == 2


async def test_nobody_listening_is_broken_and_certain(server: MisbehavingServer, mailer: Mailer) -> None:
    await server.stop()
    result = await send(mailer)
    assert isinstance(result, Broken)
    assert not result.uncertain


async def test_server_that_comes_back_at_its_port_is_used_again(
    server: MisbehavingServer, mailer: Mailer
) -> None:
    assert isinstance(await send(mailer, 1), Accepted)
    await server.stop()
    assert isinstance(await send(mailer, 2), Broken)
    await server.start()
    assert isinstance(await send(mailer, 2), Accepted)
    assert server.by_message_id == {"<n.1@msp.example>": 1, "<n.2@msp.example>": 1}


@pytest.mark.parametrize("words", ["", "421 4.4.2 Idle for too long"])
async def test_idle_connections_closed_by_the_server_cost_no_attempt(
    server: MisbehavingServer, mailer: Mailer, words: str
) -> None:
    await asyncio.gather(*(send(mailer, number) for number in range(20)))
    server.hang_up(words)
    # Whether the news has reached us by now or not, the next mail must go.
    assert isinstance(await send(mailer, 99), Accepted)
    server.hang_up(words)
    await asyncio.sleep(0.05)
    assert isinstance(await send(mailer, 100), Accepted)


async def test_421_to_the_first_command_on_an_old_connection_costs_no_attempt(
    server: MisbehavingServer, mailer: Mailer
) -> None:
    assert isinstance(await send(mailer, 1), Accepted)
    (session,) = server._sessions
    session._mail = lambda rest: session.hang_up("421 4.7.0 Too many mails")  # type: ignore[method-assign]
    assert isinstance(await send(mailer, 2), Accepted)
    assert server.connections == 2


@pytest.mark.parametrize("greeting", ["421 4.3.2 Shutting down", "554 5.3.2 Not here"])
async def test_server_that_does_not_let_us_in_fails_no_mail_for_good(
    server: MisbehavingServer, mailer: Mailer, greeting: str
) -> None:
    server.greeting = greeting
    assert await send(mailer) == Broken(greeting)


async def test_server_that_hangs_up_at_once_is_broken(server: MisbehavingServer, mailer: Mailer) -> None:
    server.hang_up_greeting = True
    result = await send(mailer)
    assert isinstance(result, Broken)
    assert not result.uncertain


async def test_server_that_wants_a_password_fails_no_mail_for_good(
    server: MisbehavingServer, mailer: Mailer
) -> None:
    server.refused[RECIPIENT] = "530 5.7.0 Authentication required"
    assert await send(mailer) == Broken("530 5.7.0 Authentication required")


async def test_silent_server_costs_no_more_than_our_patience() -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(hold, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with Mailer(Server("127.0.0.1", port), Limits(connect=0.2, attempt=1)) as mailer:
        results = await asyncio.gather(*(send(mailer, number) for number in range(20)))
    assert all(isinstance(result, Broken) and not result.uncertain for result in results)
    silent.close()


async def test_cancelled_mail_does_not_spoil_its_connection_for_the_next(server: MisbehavingServer) -> None:
    async with Mailer(Server("127.0.0.1", server.port), Limits(connections=1)) as mailer:
        server.slow = 30
        task = asyncio.create_task(send(mailer, 1))
        await eventually(lambda: len(server.arrivals) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: not server._sessions)
        server.slow = 0
        assert await send(mailer, 2) == Accepted("250 2.0.0 Kept")
    assert server.connections == 2


async def test_unused_connections_are_closed_after_a_while(server: MisbehavingServer) -> None:
    async with Mailer(Server("127.0.0.1", server.port), Limits(idle=0.2)) as mailer:
        await asyncio.gather(*(send(mailer, number) for number in range(20)))
        assert server._sessions
        await eventually(lambda: not server._sessions)


async def test_closing_lets_mails_in_hand_finish_and_leaves_politely(server: MisbehavingServer) -> None:
    server.slow = 0.2
    mailer = Mailer(Server("127.0.0.1", server.port), Limits(connections=4))
    tasks = [asyncio.create_task(send(mailer, number)) for number in range(4)]
    await eventually(lambda: len(server.arrivals) == 4)
    await mailer.close()
    assert all(isinstance(task.result(), Accepted) for task in tasks)
    await eventually(lambda: not server._sessions)
    assert isinstance(await send(mailer, 9), Broken)


async def test_international_address_needs_a_server_that_takes_them(server: MisbehavingServer) -> None:
    async with Mailer(Server("127.0.0.1", server.port), QUICK) as mailer:
        assert isinstance(await send(mailer, 1, "renée@example.org"), Accepted)
    server.extensions = ("8BITMIME",)
    async with Mailer(Server("127.0.0.1", server.port), QUICK) as mailer:
        result = await send(mailer, 2, "renée@example.org")
    assert isinstance(result, Refused)
    assert not result.temporary
    assert server.by_recipient == {"renée@example.org": 1}


@pytest.mark.parametrize(
    "address", ["a@b>\r\nRCPT TO:<c@d", "a b@c", "a@b> SIZE=1", "", "\udcff@example.org"]
)
async def test_address_that_would_break_the_command_is_refused_here(
    server: MisbehavingServer, mailer: Mailer, address: str
) -> None:
    result = await send(mailer, 1, address)
    assert isinstance(result, Refused)
    assert not result.temporary
    assert (server.connections, server.arrivals) == (0, [])


async def test_starttls_is_never_given_up_silently(server: MisbehavingServer) -> None:
    tls = Server("127.0.0.1", server.port, security="starttls", username="msp", password="not-a-secret")
    async with Mailer(tls, QUICK) as mailer:
        result = await send(mailer)
    assert isinstance(result, Broken)
    assert "STARTTLS" in result.words
    assert server.arrivals == []


def test_password_without_tls_is_refused_and_never_shown() -> None:
    with pytest.raises(ValueError, match="TLS"):
        Server("mail.example", 25, username="msp", password="not-a-secret")
    assert "not-a-secret" not in repr(Server("mail.example", 587, "starttls", "msp", "not-a-secret"))


async def test_half_a_thousand_mails_through_a_bad_day_are_counted_alike(server: MisbehavingServer) -> None:
    """Retried until accepted, as the service does: nothing lost, nothing doubled that was not uncertain."""
    server.busy, server.busy_stage = 40, "END"
    server.drops, server.drop_keeps = 10, True
    uncertain: set[int] = set()

    async def deliver(mailer: Mailer, number: int) -> None:
        while True:
            result = await send(mailer, number, f"{number}@example.org")
            if isinstance(result, Accepted):
                return
            if isinstance(result, Broken) and result.uncertain:
                uncertain.add(number)

    async with Mailer(Server("127.0.0.1", server.port)) as mailer:
        await asyncio.gather(*(deliver(mailer, number) for number in range(500)))
    counted = server.by_message_id
    assert len(counted) == 500
    assert {message_id for message_id, count in counted.items() if count > 1} == {
        f"<n.{number}@msp.example>" for number in uncertain
    }
    assert sum(counted.values()) == 500 + len(uncertain) == 510


def start(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )


async def test_local_mail_server_keeps_every_mail_and_stops_when_told(tmp_path: Path) -> None:
    process = start("-m", "deploy.local.mailserver", "--port", "0", "--maildir", str(tmp_path / "mail"))
    assert process.stdout is not None
    said = await asyncio.to_thread(process.stdout.readline)
    port = int(said.split(",", maxsplit=1)[0].rpartition(":")[2])
    async with Mailer(Server("127.0.0.1", port), QUICK) as mailer:
        message = mail(text=".dot\r\n..dots")
        results = await asyncio.gather(*(mailer.send(message, SENDER, RECIPIENT) for _ in range(20)))
    assert all(isinstance(result, Accepted) for result in results)
    process.send_signal(signal.SIGTERM)
    said_later, errors = await asyncio.to_thread(process.communicate, timeout=10)
    assert (process.returncode, said_later, errors) == (0, "", "")
    kept = list((tmp_path / "mail" / "new").iterdir())
    assert len(kept) == 20
    assert (
        kept[0].read_bytes() == f"Return-Path: <{SENDER}>\r\nDelivered-To: {RECIPIENT}\r\n".encode() + message
    )
    assert list((tmp_path / "mail" / "tmp").iterdir()) == []


async def test_counting_sink_reports_each_arrival_as_a_line(tmp_path: Path) -> None:
    report = tmp_path / "arrivals.jsonl"
    process = start("-m", "tests.mailsink", "--port", "0", "--report", os.fspath(report))
    assert process.stderr is not None
    said = await asyncio.to_thread(process.stderr.readline)
    port = int(said.rpartition(":")[2])
    async with Mailer(Server("127.0.0.1", port), QUICK) as mailer:
        assert isinstance(await send(mailer), Accepted)
    process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(process.communicate, timeout=10)
    assert process.returncode == 0
    (line,) = report.read_text().splitlines()
    arrival = json.loads(line)
    assert arrival.pop("at") == pytest.approx(time.time(), abs=60)
    assert arrival == {
        "message_id": "<n.1@msp.example>",
        "in_reply_to": "",
        "reference": "MSP-7F3K-2Q",
        "recipient": RECIPIENT,
    }
