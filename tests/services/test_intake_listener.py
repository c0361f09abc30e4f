"""The listener on a real socket. What accepts is a recorder: the store behind it has its own tests."""

import asyncio
import contextlib
import smtplib
import ssl
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import pytest
import structlog
import trustme
import uvloop

from services.intake.domain import ArrivedMail, Began, Outcome, accept
from services.intake.smtp import DoorOptions, Listener, ListenerOptions
from services.intake.smtp.door import Rates
from shared.store import Unavailable
from tests.conftest import eventually as eventually_async

OPTIONS = ListenerOptions(
    recipients=frozenset({"enquiries@programme.example", "open.example"}), hostname="in.example"
)
BODY = b"From: jane@council.example\r\nSubject: Advice\r\nMessage-ID: <a@council.example>\r\n\r\nDear all\r\n"
MAIL = b"MAIL FROM:<jane@council.example>\r\n"
RCPT = b"RCPT TO:<enquiries@programme.example>\r\n"


class Recorder:
    """Accepts, and can be told to fail or to wait first."""

    def __init__(self) -> None:
        self.taken: list[ArrivedMail] = []
        self.before: Callable[[], Awaitable[None]] | None = None

    async def __call__(self, arrived: ArrivedMail) -> Outcome:
        if self.before:
            await self.before()
        self.taken.append(arrived)
        return Began(accept(None, arrived, datetime.now(UTC)).state)


class Client:
    """Speaks the protocol by hand, so that it can speak it wrong."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def reply(self) -> str:
        lines = []
        while True:
            line = (await asyncio.wait_for(self.reader.readline(), 10)).decode()
            lines.append(line.rstrip("\r\n"))
            if line[3:4] != "-":
                return "\n".join(lines)

    async def say(self, data: bytes) -> str:
        self.writer.write(data)
        await self.writer.drain()
        return await self.reply()

    async def begin_data(self, greeting: bytes = b"EHLO client.example\r\n") -> None:
        for line in (greeting, MAIL, RCPT):
            assert (await self.say(line)).startswith("250")
        assert (await self.say(b"DATA\r\n")).startswith("354")

    async def ended(self) -> bool:
        """Whether the server closes the connection, after whatever it still says."""
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(self.reader.read(), 10)
        return True


Connect = Callable[[Listener], Awaitable[Client]]
Listen = Callable[..., Awaitable[Listener]]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def listen(recorder: Recorder) -> AsyncIterator[Listen]:
    started: list[Listener] = []

    async def start(options: ListenerOptions = OPTIONS) -> Listener:
        listener = Listener(recorder, options)
        await listener.start("127.0.0.1", 0)
        started.append(listener)
        return listener

    yield start
    for listener in started:
        await listener.stop(0.1)
        assert not listener.connections
        assert listener.bytes_in_hand == 0


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    clients: list[Client] = []

    async def open_one(listener: Listener) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", listener.port))
        clients.append(client)
        await client.reply()
        return client

    yield open_one
    for client in clients:
        client.writer.close()
        with contextlib.suppress(ConnectionError):
            await client.writer.wait_closed()


async def eventually(holds: Callable[[], bool], timeout: float = 5) -> None:  # noqa: ASYNC109
    async with asyncio.timeout(timeout):
        while not holds():  # noqa: ASYNC110  (what is waited for has no event)
            await asyncio.sleep(0.01)


async def test_message_is_accepted_as_it_was_sent(listen, connect, recorder):
    client = await connect(await listen())
    await client.begin_data()
    assert (await client.say(BODY + b".\r\n")).startswith("250 2.0.0 Accepted ")
    (taken,) = recorder.taken
    assert taken.raw == BODY
    assert (taken.via, taken.mail_from, taken.peer) == ("smtp", "jane@council.example", "127.0.0.1")
    assert taken.rcpt_tos == ("enquiries@programme.example",)
    assert taken.read.subject == "Advice"
    assert (await client.say(b"QUIT\r\n")).startswith("221")


async def test_an_ordinary_client_can_send(listen, recorder):
    listener = await listen()

    def send() -> None:
        with smtplib.SMTP("127.0.0.1", listener.port, timeout=10) as smtp:
            assert smtp.ehlo()[0] == 250
            assert smtp.esmtp_features["size"] == str(OPTIONS.size_limit)
            assert {"8bitmime", "smtputf8", "pipelining", "enhancedstatuscodes"} <= set(smtp.esmtp_features)
            assert "auth" not in smtp.esmtp_features
            for _ in range(3):
                smtp.sendmail(
                    "jané@council.example",
                    ["enquiries@programme.example"],
                    BODY,
                    ["SMTPUTF8", "BODY=8BITMIME"],
                )

    await asyncio.to_thread(send)
    assert [taken.mail_from for taken in recorder.taken] == ["jané@council.example"] * 3


async def test_yes_is_said_only_after_accept_has_returned(listen, connect, recorder):
    durable = asyncio.Event()
    recorder.before = durable.wait
    client = await connect(await listen())
    await client.begin_data()
    client.writer.write(BODY + b".\r\n")
    reply = asyncio.create_task(client.reply())
    done, _ = await asyncio.wait([reply], timeout=0.2)
    assert not done
    durable.set()
    assert (await reply).startswith("250")


@pytest.mark.parametrize(
    ("sent", "raw"),
    [
        (b"..\r\n.\r\n", b".\r\n"),
        (b"..a\r\n...b\r\n.c\r\n.\r\n", b".a\r\n..b\r\nc\r\n"),
        (b"a\r\n..\r\n..\r\nb\r\n.\r\n", b"a\r\n.\r\n.\r\nb\r\n"),
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"a." + b"b" * 200_000 + b"\r\n.\r\n", b"a." + b"b" * 200_000 + b"\r\n"),
        (b"\xff\x00\r\n.\r\n", b"\xff\x00\r\n"),
    ],
)
async def test_dots_are_unstuffed_and_long_lines_and_any_octets_taken(listen, connect, recorder, sent, raw):
    client = await connect(await listen())
    await client.begin_data()
    assert (await client.say(sent)).startswith("250")
    assert recorder.taken[0].raw == raw


async def test_end_of_message_is_found_wherever_the_network_cuts(listen, connect, recorder):
    client = await connect(await listen())
    for cut in range(1, 8):
        await client.begin_data(b"EHLO x\r\n")
        data = BODY + b".\r\n"
        client.writer.write(data[:-cut])
        await client.writer.drain()
        await asyncio.sleep(0.02)
        assert (await client.say(data[-cut:])).startswith("250")
    assert [taken.raw for taken in recorder.taken] == [BODY] * 7


async def test_commands_sent_ahead_are_answered_in_order(listen, connect, recorder):
    client = await connect(await listen())
    client.writer.write(
        b"EHLO x\r\n"
        + MAIL
        + RCPT
        + b"DATA\r\n"
        + BODY
        + b".\r\n"
        + MAIL
        + RCPT
        + b"DATA\r\nsecond\r\n.\r\nQUIT\r\n"
    )
    codes = [(await client.reply())[:3] for _ in range(10)]
    assert codes == ["250", "250", "250", "354", "250", "250", "250", "354", "250", "221"]
    assert [taken.raw for taken in recorder.taken] == [BODY, b"second\r\n"]


@pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r\n\x00.\r\n"])
async def test_no_message_is_smuggled_inside_another(listen, connect, recorder, end):
    client = await connect(await listen())
    await client.begin_data()
    smuggled = b"first" + end + MAIL + RCPT + b"DATA\r\nsecond"
    assert (await client.say(smuggled + b"\r\n.\r\n")).startswith("250")
    (taken,) = recorder.taken
    assert b"first" in taken.raw
    assert b"second" in taken.raw
    assert (await client.say(b"NOOP\r\n")).startswith("250")


# Refusals


@pytest.mark.parametrize(
    ("recipient", "code"),
    [
        (b"enquiries@programme.example", "250 2.1.5"),
        (b"Enquiries@Programme.EXAMPLE", "250 2.1.5"),
        (b"enquiries+MSP-7F3K-2Q@programme.example", "250 2.1.5"),
        (b"anyone@open.example", "250 2.1.5"),
        (b"nobody@programme.example", "550 5.1.1"),
        (b"someone@elsewhere.example", "550 5.7.1"),
        (b"someone%elsewhere.example@programme.example", "550 5.1.1"),
        (b"enquiries", "553 5.1.3"),
        (b"\xff@open.example", "553 5.1.3"),
        (b"a\x00b@open.example", "553 5.1.3"),
        (b"x" * 400 + b"@open.example", "553 5.1.3"),
    ],
)
async def test_recipients_are_checked_at_rcpt(listen, connect, recipient, code):
    client = await connect(await listen())
    await client.say(b"EHLO x\r\n")
    await client.say(MAIL)
    assert (await client.say(b"RCPT TO:<" + recipient + b">\r\n")).startswith(code)


async def test_null_sender_is_taken_and_not_to_be_answered(listen, connect, recorder):
    client = await connect(await listen())
    await client.say(b"EHLO x\r\n")
    assert (await client.say(b"MAIL FROM:<> SIZE=10 BODY=8BITMIME\r\n")).startswith("250")
    assert (await client.say(RCPT)).startswith("250")
    await client.say(b"DATA\r\n")
    assert (await client.say(BODY + b".\r\n")).startswith("250")
    assert recorder.taken[0].mail_from == ""
    assert recorder.taken[0].read.suppress_reply_evidence == ("the envelope sender is empty",)


async def test_too_many_recipients_are_put_off(listen, connect):
    client = await connect(await listen(replace(OPTIONS, max_recipients=2)))
    await client.say(b"EHLO x\r\n")
    await client.say(MAIL)
    assert [(await client.say(RCPT))[:9] for _ in range(3)] == ["250 2.1.5", "250 2.1.5", "452 4.5.3"]


async def test_message_too_large_is_refused_before_and_after_it_is_sent(listen, connect, recorder):
    client = await connect(await listen(replace(OPTIONS, size_limit=1_000)))
    await client.say(b"EHLO x\r\n")
    assert (await client.say(MAIL.rstrip() + b" SIZE=1001\r\n")).startswith("552 5.3.4")
    for size, code in ((1_001, "552 5.3.4"), (100_000 // 50, "552 5.3.4"), (1_000, "250 2.0.0")):
        await client.begin_data()
        assert (await client.say(b"x" * (size - 2) + b"\r\n.\r\n")).startswith(code)
    assert [len(taken.raw) for taken in recorder.taken] == [1_000]


async def test_client_that_never_stops_sending_is_cut_off(listen, connect, recorder):
    client = await connect(await listen(replace(OPTIONS, size_limit=1_000)))
    await client.begin_data()
    with contextlib.suppress(ConnectionError):
        for _ in range(200):
            client.writer.write(b"x" * 10_000)
            await client.writer.drain()
    assert await client.ended()
    assert not recorder.taken


async def test_memory_of_all_clients_together_is_bounded(listen, connect, recorder):
    listener = await listen(replace(OPTIONS, memory_limit=100_000))
    first, second = await connect(listener), await connect(listener)
    await first.begin_data()
    first.writer.write(b"x" * 80_000)
    await eventually(lambda: listener.bytes_in_hand >= 80_000)
    await second.begin_data()
    assert (await second.say(b"x" * 80_000 + b"\r\n.\r\n")).startswith("452 4.3.1")
    assert (await first.say(b"\r\n.\r\n")).startswith("250")
    await second.begin_data()
    assert (await second.say(BODY + b".\r\n")).startswith("250")


async def test_connections_beyond_the_limit_are_told_to_come_back(listen, connect):
    listener = await listen(replace(OPTIONS, door=DoorOptions(connections=1)))
    first = await connect(listener)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    assert (await reader.readline()).startswith(b"421 4.3.2")
    writer.close()
    assert (await first.say(b"NOOP\r\n")).startswith("250")


@pytest.mark.parametrize(
    "command",
    [
        b"AUTH PLAIN AGEAYg==",
        b"EXPN x",
        b"BOGUS",
        b"RCPT TO:<enquiries@programme.example>",
        b"MAIL FROM:x",
        b"x" * 2_000,
    ],
)
async def test_what_is_not_offered_is_refused_and_the_connection_stays(listen, connect, command):
    client = await connect(await listen())
    await client.say(b"EHLO x\r\n")
    assert (await client.say(command + b"\r\n")).startswith("5")
    assert (await client.say(b"VRFY enquiries\r\n")).startswith("252")
    assert (await client.say(b"NOOP\r\n")).startswith("250")


# Trouble


@pytest.mark.parametrize("error", [Unavailable("away"), TimeoutError(), RuntimeError("a bug"), KeyError("x")])
async def test_message_that_could_not_be_stored_is_put_off_and_can_be_sent_again(
    listen, connect, recorder, error
):
    async def fail() -> None:
        raise error

    client = await connect(await listen())
    recorder.before = fail
    await client.begin_data()
    assert (await client.say(BODY + b".\r\n")).startswith("451 4.3.0")
    assert not recorder.taken
    recorder.before = None
    await client.begin_data()
    assert (await client.say(BODY + b".\r\n")).startswith("250")
    assert len(recorder.taken) == 1


async def test_store_that_does_not_answer_is_not_waited_for_for_ever(listen, connect, recorder):
    recorder.before = asyncio.Event().wait
    client = await connect(await listen(replace(OPTIONS, accept_timeout=0.1)))
    await client.begin_data()
    assert (await client.say(BODY + b".\r\n")).startswith("451 4.3.0")


@pytest.mark.parametrize("sent", [b"", BODY, BODY + b".", BODY + b".\r"])
@pytest.mark.parametrize("reset", [False, True])
async def test_connection_lost_within_a_message_accepts_nothing(listen, connect, recorder, sent, reset):
    listener = await listen()
    client = await connect(listener)
    await client.begin_data()
    client.writer.write(sent)
    await client.writer.drain()
    if reset:
        client.writer.transport.abort()
    else:
        client.writer.close()
    await eventually(lambda: not listener.connections)
    assert not recorder.taken
    assert listener.bytes_in_hand == 0


async def test_slow_client_does_not_hold_up_others(listen, connect, recorder):
    listener = await listen()
    slow = await connect(listener)
    await slow.begin_data()
    slow.writer.write(b"Subject: sl")
    stuck = asyncio.Event()
    waiting = await connect(listener)
    recorder.before = stuck.wait
    await waiting.begin_data()
    waiting.writer.write(BODY + b".\r\n")
    await eventually(lambda: any(connection.busy for connection in listener.connections))
    await asyncio.sleep(0.05)
    recorder.before = None
    quick = await connect(listener)
    await quick.begin_data()
    assert (await quick.say(BODY + b".\r\n")).startswith("250")
    assert len(recorder.taken) == 1
    assert (await slow.say(b"ow\r\n\r\n.\r\n")).startswith("250")
    stuck.set()
    assert (await waiting.reply()).startswith("250")


async def test_silent_client_is_told_and_closed(listen, connect):
    listener = await listen(replace(OPTIONS, idle_timeout=0.1))
    client = await connect(listener)
    assert (await client.reply()).startswith("421 4.4.2")
    assert await client.ended()


async def test_client_that_drips_a_message_is_bounded_by_the_whole(listen, connect, recorder):
    listener = await listen(replace(OPTIONS, idle_timeout=5.0, data_timeout=0.3))
    client = await connect(listener)
    await client.begin_data()
    with contextlib.suppress(ConnectionError):
        for _ in range(100):
            client.writer.write(b"x")
            await client.writer.drain()
            if not listener.connections:
                break
            await asyncio.sleep(0.02)
    await eventually(lambda: not listener.connections)
    assert not recorder.taken


# Stopping


async def test_stop_finishes_the_message_in_hand_and_says_goodbye_to_the_idle(listen, connect, recorder):
    listener = await listen()
    port = listener.port
    idle, busy = await connect(listener), await connect(listener)
    await busy.begin_data()
    busy.writer.write(BODY)
    stopping = asyncio.create_task(listener.stop(10))
    assert (await idle.reply()).startswith("421 4.3.2")
    assert (await busy.say(b".\r\n")).startswith("250")
    assert (await busy.reply()).startswith("421 4.3.2")
    await asyncio.wait_for(stopping, 5)
    assert len(recorder.taken) == 1
    with pytest.raises(ConnectionError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_stop_is_bounded_by_a_message_that_never_ends(listen, connect, recorder):
    listener = await listen()
    client = await connect(listener)
    await client.begin_data()
    await asyncio.wait_for(listener.stop(0.1), 3)
    assert (await client.reply()).startswith("421 4.3.2")
    assert not listener.connections
    assert not recorder.taken


# LMTP

LMTP = replace(OPTIONS, protocol="lmtp")
LHLO = b"LHLO client.example\r\n"


async def test_lmtp_answers_once_for_each_recipient_taken(listen, connect, recorder):
    client = await connect(await listen(LMTP))
    assert "PIPELINING" in await client.say(LHLO)
    await client.say(MAIL)
    for recipient, code in (
        (b"a@open.example", "250"),
        (b"x@elsewhere.example", "550"),
        (b"b@open.example", "250"),
    ):
        assert (await client.say(b"RCPT TO:<" + recipient + b">\r\n")).startswith(code)
    await client.say(b"DATA\r\n")
    client.writer.write(BODY + b".\r\nNOOP\r\n")
    replies = [(await client.reply())[:9] for _ in range(3)]
    assert replies == ["250 2.0.0", "250 2.0.0", "250 2.0.0"]
    (taken,) = recorder.taken
    assert (taken.via, taken.rcpt_tos) == ("lmtp", ("a@open.example", "b@open.example"))
    assert (await client.say(b"QUIT\r\n")).startswith("221")


@pytest.mark.parametrize("trouble", ["451 4.3.0", "552 5.3.4"])
async def test_lmtp_puts_off_and_refuses_for_each_recipient(listen, connect, recorder, trouble):
    async def fail() -> None:
        raise Unavailable("away")

    recorder.before = fail
    client = await connect(await listen(replace(LMTP, size_limit=10 if trouble == "552 5.3.4" else 1_000)))
    await client.say(LHLO)
    await client.say(MAIL)
    await client.say(RCPT)
    await client.say(RCPT)
    await client.say(b"DATA\r\n")
    client.writer.write(BODY + b".\r\n")
    assert [(await client.reply())[:9] for _ in range(2)] == [trouble, trouble]


async def test_lmtp_has_no_helo(listen, connect):
    client = await connect(await listen(LMTP))
    assert (await client.say(b"EHLO x\r\n")).startswith("500")
    assert (await client.say(b"HELO x\r\n")).startswith("500")
    assert (await client.say(MAIL)).startswith("503")


# TLS and logs


@pytest.fixture(scope="session")
def certificate() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("in.example").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


async def test_starttls_can_be_required(listen, recorder, certificate):
    server, client = certificate
    listener = await listen(replace(OPTIONS, tls=server, require_tls=True))

    def send() -> None:
        with smtplib.SMTP("127.0.0.1", listener.port, timeout=10) as smtp:
            smtp._host = "in.example"
            smtp.ehlo()
            assert smtp.mail("jane@council.example")[0] == 530
            smtp.starttls(context=client)
            smtp.ehlo()
            assert "starttls" not in smtp.esmtp_features
            smtp.sendmail("jane@council.example", ["enquiries@programme.example"], BODY)

    await asyncio.to_thread(send)
    assert recorder.taken[0].raw == BODY
    await eventually(lambda: not listener.connections)


async def test_no_address_and_no_word_of_a_message_reaches_the_logs(listen, connect, recorder, caplog):
    async def fail() -> None:
        raise ValueError("jane@council.example")

    caplog.set_level(0)
    with structlog.testing.capture_logs() as events:
        client = await connect(await listen())
        recorder.before = fail
        await client.begin_data()
        assert (await client.say(BODY + b".\r\n")).startswith("451")
        await client.say(MAIL)
        await client.say(b"RCPT TO:<secret@elsewhere.example>\r\n")
    assert {"listener_started", "message_not_accepted", "recipient_refused"} <= {
        event["event"] for event in events
    }
    said = repr(events) + "".join(record.getMessage() for record in caplog.records)
    assert "@" not in said
    assert "Advice" not in said


async def test_everything_that_closes_a_connection_does_so_on_the_loop_of_production():
    """uvloop's transports are none of asyncio's classes: asking for those left connections open."""
    recorder = Recorder()

    async def scenario() -> None:
        door = DoorOptions(connections=2)
        listener = Listener(recorder, replace(OPTIONS, idle_timeout=0.2, door=door, size_limit=1_000))
        await listener.start("127.0.0.1", 0)
        silent, endless, late = [
            Client(*await asyncio.open_connection("127.0.0.1", listener.port)) for _ in range(3)
        ]
        assert (await late.reply()).startswith("421 4.3.2")
        assert (await silent.reply()).startswith("220")
        assert (await endless.reply()).startswith("220")
        await endless.begin_data()
        endless.writer.write(b"x" * 1_000_000)
        assert (await endless.reply()).startswith("421 5.3.4")
        assert (await silent.reply()).startswith("421 4.4.2")
        await eventually(lambda: not listener.connections)
        idle = Client(*await asyncio.open_connection("127.0.0.1", listener.port))
        assert (await idle.reply()).startswith("220")
        await listener.stop(0.1)
        assert (await idle.reply()).startswith("421 4.3.2")
        assert not listener.connections
        for client in (silent, endless, late, idle):
            client.writer.close()

    await asyncio.wait_for(asyncio.to_thread(uvloop.run, scenario()), 20)
    assert not recorder.taken


# Who may send, and how much


STRANGERS = DoorOptions(trusted=frozenset())
"""The tests' own client is no gateway of ours."""


def networks(*written: str) -> frozenset[Any]:
    return frozenset(ip_network(each) for each in written)


async def test_one_clients_messages_are_put_off_beyond_its_rate_and_a_gateways_never(
    listen, connect, recorder
):
    strange = await connect(await listen(replace(OPTIONS, door=replace(STRANGERS, client_rate=3))))
    await strange.say(b"EHLO x\r\n")
    replies = []
    for number in range(5):
        replies.append((await strange.say(b"MAIL FROM:<s%d@council.example>\r\n" % number))[:9])
        await strange.say(b"RSET\r\n")
    assert replies == ["250 2.0.0"] * 3 + ["450 4.7.1"] * 2
    gateway = await connect(await listen(replace(OPTIONS, door=DoorOptions(client_rate=3, sender_rate=3))))
    for _ in range(5):
        await gateway.begin_data()
        assert (await gateway.say(BODY + b".\r\n")).startswith("250")


async def test_one_senders_messages_are_put_off_beyond_their_rate_but_not_bounces(listen, connect):
    listener = await listen(replace(OPTIONS, door=replace(STRANGERS, sender_rate=2)))
    client = await connect(listener)
    await client.say(b"EHLO x\r\n")
    codes = []
    for sender in (
        b"Jane@council.example",
        b"jane@council.example",
        b"jane@council.EXAMPLE",
        b"joe@b.example",
    ):
        codes.append((await client.say(b"MAIL FROM:<" + sender + b">\r\n"))[:3])
        await client.say(b"RSET\r\n")
    assert codes == ["250", "250", "450", "250"]
    for _ in range(5):
        assert (await client.say(b"MAIL FROM:<>\r\n")).startswith("250")
        await client.say(b"RSET\r\n")


async def test_rates_are_kept_of_so_many_and_recover():
    rates = Rates(per_minute=6_000, remembered=100)
    for number in range(1_000):
        assert await rates.take(f"client {number}")
    assert len(rates) == 100
    while await rates.take("hasty"):
        pass
    await eventually_async(lambda: rates.take("hasty"))


async def test_one_client_cannot_take_every_connection(listen, connect):
    listener = await listen(replace(OPTIONS, door=replace(STRANGERS, client_connections=2)))
    first, _ = await connect(listener), await connect(listener)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    assert (await reader.readline()).startswith(b"421 4.7.0")
    writer.close()
    first.writer.close()
    await eventually(lambda: len(listener.connections) == 1)
    assert (await (await connect(listener)).say(b"NOOP\r\n")).startswith("250")


async def test_only_allowed_peers_are_let_in(listen, connect):
    door = DoorOptions(allowed=networks("10.0.0.0/8"))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", (await listen(replace(OPTIONS, door=door))).port
    )
    assert await reader.read() == b"554 5.7.1 No mail is taken from your address\r\n"
    writer.close()
    door = DoorOptions(allowed=networks("10.0.0.0/8", "127.0.0.0/8"))
    assert await (await connect(await listen(replace(OPTIONS, door=door)))).say(b"NOOP\r\n")


V2 = b"\r\n\r\n\x00\r\nQUIT\n"


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 25\r\n", "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4000 25\r\n", "2001:db8::7"),
        (V2 + b"\x21\x11\x00\x0c" + bytes([192, 0, 2, 7, 192, 0, 2, 1]) + b"\x0f\xa0\x00\x19", "192.0.2.7"),
        (V2 + b"\x20\x00\x00\x00", "127.0.0.1"),  # LOCAL: the proxy itself
    ],
)
async def test_a_proxys_word_tells_who_the_client_is(listen, recorder, header, client):
    door = DoorOptions(proxies=networks("127.0.0.1/32"))
    listener = await listen(replace(OPTIONS, door=door))
    told = Client(*await asyncio.open_connection("127.0.0.1", listener.port))
    assert (await told.say(header)).startswith("220")
    await told.begin_data()
    assert (await told.say(BODY + b".\r\n")).startswith("250")
    assert recorder.taken[0].peer == client
    told.writer.close()


async def test_allowed_peers_are_judged_by_the_proxys_word_and_nobody_elses_is_believed(listen, connect):
    header = b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 25\r\n"
    door = DoorOptions(proxies=networks("127.0.0.1/32"), allowed=networks("198.51.100.0/24"))
    listener = await listen(replace(OPTIONS, door=door))
    refused = Client(*await asyncio.open_connection("127.0.0.1", listener.port))
    assert (await refused.say(header)).startswith("554 5.7.1")
    assert await refused.ended()
    silent = Client(*await asyncio.open_connection("127.0.0.1", listener.port))
    silent.writer.write(b"EHLO x\r\n")  # no header at all
    assert await silent.ended()
    assert (await (await connect(await listen())).say(header)).startswith("500")
    for client in (refused, silent):
        client.writer.close()


# Hostile clients


async def test_ten_thousand_recipients_are_answered_and_cost_little(listen, connect, recorder):
    client = await connect(await listen())
    await client.say(b"EHLO x\r\n")
    await client.say(MAIL)
    client.writer.write(RCPT * 10_000)
    codes = Counter([(await client.reply())[:3] for _ in range(10_000)])
    assert codes == {"250": 100, "452": 9_900}
    await client.say(b"DATA\r\n")
    assert (await client.say(BODY + b".\r\n")).startswith("250")
    assert len(recorder.taken[0].rcpt_tos) == 100


async def test_slow_loris_clients_do_not_hold_up_others(listen, connect, recorder):
    listener = await listen()
    for number in range(150):
        client = await connect(listener)
        await client.begin_data() if number % 2 else client.writer.write(b"EHL")
    quick = await connect(listener)
    async with asyncio.timeout(2):
        await quick.begin_data()
        assert (await quick.say(BODY + b".\r\n")).startswith("250")


async def test_fifty_megabyte_messages_are_refused_in_bounded_memory(listen, connect, recorder, capsys):
    listener = await listen(replace(OPTIONS, memory_limit=64 * 1024 * 1024))
    block = b"x" * 998 + b"\r\n"

    async def pour(client: Client) -> str:
        await client.begin_data()
        for _ in range(50):
            client.writer.write(block * 1_000)
            await client.writer.drain()
            highest[0] = max(highest[0], listener.bytes_in_hand)
        return await client.say(b".\r\n")

    highest = [0]
    tracemalloc.start()
    replies = await asyncio.gather(*[pour(await connect(listener)) for _ in range(8)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert {reply[:9] for reply in replies} <= {"552 5.3.4", "452 4.3.1"}
    assert not recorder.taken
    assert highest[0] <= 64 * 1024 * 1024
    with capsys.disabled():
        print(f" [8 × 50 MB at once: {highest[0] >> 20} MiB of mail in hand, {peak >> 20} MiB allocated]")
    assert peak < 160 * 1024 * 1024
