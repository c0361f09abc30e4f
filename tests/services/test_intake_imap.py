"""A mailbox watched on a real Dovecot: what is in it is accepted before it is marked, whatever happens between."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from deploy.local.servers import Servers
from services.intake.domain import ArrivedMail, Outcome, accept
from services.intake.imap import MARK, Mailbox, MailboxOptions, watched
from shared.store import Unavailable
from tests.conftest import eventually
from tests.dovecot import PASSWORD, Dovecot, dovecot
from tests.services.conftest import running_intake

LONG = 600.0
"""Seconds nobody would wait for: what happens within a test was told by IDLE."""


def mail(name: str, body: str = "Dear all") -> bytes:
    return (
        f"From: jane@council.example\r\nSubject: {name}\r\nMessage-ID: <{name}@council.example>\r\n\r\n{body}\r\n"
    ).encode()


class Recorder:
    """Accepts, unless it is told to do something else first."""

    def __init__(self) -> None:
        self.taken: list[ArrivedMail] = []
        self.before: Callable[[ArrivedMail], Awaitable[None]] | None = None

    async def __call__(self, arrived: ArrivedMail) -> Outcome:
        if self.before:
            await self.before(arrived)
        self.taken.append(arrived)
        return accept(None, arrived, datetime.now(UTC))

    def subjects(self) -> list[str]:
        return [arrived.read.subject for arrived in self.taken]


class Relay:
    """Stands between intake and the server, sees what intake says, and can cut the line."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._writers: list[asyncio.StreamWriter] = []
        self.on_word: Callable[[bytes], Awaitable[bool]] | None = None
        """Asked before anything of intake's is passed on; what it denies is not, and the line is cut."""

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ours: bool) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                if ours and self.on_word and not await self.on_word(data):
                    self.cut()
                    return
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers += [writer, back]
        await asyncio.gather(self._pass(reader, back, ours=True), self._pass(there, writer, ours=False))

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            self.cut()


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with dovecot() as running:
        yield running


@pytest.fixture
def user() -> str:
    return f"u{uuid4().hex[:8]}"


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def options(server: Dovecot, user: str) -> MailboxOptions:
    return MailboxOptions(url=server.url(user), password=SecretStr(PASSWORD), poll=LONG)


async def marked(server: Dovecot, user: str, n: int, mailbox: str = "INBOX") -> None:
    """Wait until `n` messages are there and every one is marked."""

    async def all_marked() -> bool:
        flags = await asyncio.to_thread(server.flags, user, mailbox)
        return len(flags) == n and all(MARK in each for each in flags)

    await eventually(all_marked, what=f"{n} messages marked")


async def test_what_is_there_and_what_comes_is_accepted_and_marked_and_stays(server, user, recorder, options):
    server.append(user, mail("one"), mail("two"))
    async with watched(Mailbox(recorder, options)):
        await marked(server, user, 2)
        server.append(user, mail("three"))
        await marked(server, user, 3)
    assert recorder.subjects() == ["one", "two", "three"]
    assert [(taken.via, taken.peer) for taken in recorder.taken] == [("imap", "127.0.0.1")] * 3
    assert recorder.taken[0].raw == mail("one")
    assert server.flags(user) == [{MARK}] * 3, "and nobody has seen them"
    async with watched(Mailbox(recorder, options)):
        server.append(user, mail("four"))
        await marked(server, user, 4)
    assert recorder.subjects() == ["one", "two", "three", "four"]


async def test_a_server_without_idle_is_asked_again_and_again(user, recorder, options):
    with dovecot(capability="IMAP4rev1 UIDPLUS") as old:
        quick = replace(options, url=old.url(user), poll=0.05)
        async with watched(Mailbox(recorder, quick)):
            for number in range(3):
                old.append(user, mail(str(number)))
                await marked(old, user, number + 1)
    assert recorder.subjects() == ["0", "1", "2"]


async def test_what_is_accepted_can_be_moved_instead(server, user, recorder, options):
    server.append(user, mail("one"), mail("two"))
    async with watched(Mailbox(recorder, replace(options, move_to="Done"))):
        await eventually(lambda: not server.flags(user))
        server.append(user, mail("three"))
        await eventually(lambda: not server.flags(user) and len(recorder.taken) == 3)
        await eventually(lambda: len(server.flags(user, "Done")) == 3)


async def test_nothing_is_marked_while_the_store_is_away(server, user, recorder, options):
    asked = 0

    async def away(_: ArrivedMail) -> None:
        nonlocal asked
        asked += 1
        raise Unavailable("away")

    recorder.before = away
    server.append(user, mail("one"), mail("two"))
    async with watched(Mailbox(recorder, replace(options, poll=0.1))):
        await eventually(lambda: asked > 4)
        assert server.flags(user) == [set(), set()]
        recorder.before = None
        await marked(server, user, 2)
    assert sorted(recorder.subjects()) == ["one", "two"]


async def test_one_message_that_cannot_be_taken_is_in_nobodys_way(server, user, recorder, options):
    async def trip(arrived: ArrivedMail) -> None:
        if arrived.read.subject == "poison":
            raise RuntimeError("a bug")

    recorder.before = trip
    server.append(user, mail("poison"), b"\xff\x00 no message at all", mail("two"))
    async with watched(Mailbox(recorder, replace(options, poll=0.1))):
        await eventually(lambda: len(recorder.taken) == 2)
        server.append(user, mail("three"))
        await eventually(lambda: "three" in recorder.subjects())
        await eventually(lambda: [MARK in flags for flags in server.flags(user)] == [False, True, True, True])


async def test_of_a_message_too_large_the_beginning_is_accepted_and_that_is_said(
    server, user, recorder, options
):
    server.append(user, mail("large", "x" * 200_000), mail("small"))
    async with watched(Mailbox(recorder, replace(options, size_limit=100_000))):
        await marked(server, user, 2)
    large, small = recorder.taken
    assert (len(large.raw), large.read.subject) == (100_000, "large")
    assert large.read.parse_error.startswith("only its first 100000 bytes were read")
    assert small.read.parse_error is None


@pytest.mark.parametrize("word", [b"FETCH", b"STORE", b"SEARCH", b"IDLE", b"DONE"])
async def test_a_line_cut_at_any_word_loses_and_doubles_nothing(server, user, recorder, options, word):
    relay = Relay(server.port)
    cuts = 0

    async def cut_twice(data: bytes) -> bool:
        nonlocal cuts
        cuts += word in data
        return not (word in data and cuts in (1, 3))

    relay.on_word = cut_twice
    server.append(user, *[mail(str(number)) for number in range(4)])
    async with relay.listening() as port:
        url = server.url(user, port=port)
        async with watched(Mailbox(recorder, replace(options, url=url, poll=0.2))):
            await marked(server, user, 4)
            await eventually(lambda: cuts >= 3)
            server.append(user, mail("last"))
            await marked(server, user, 5)
    assert set(recorder.subjects()) == {"0", "1", "2", "3", "last"}
    assert len({arrived.id for arrived in recorder.taken}) == 5, "what came twice is one to intake"


async def test_a_server_that_is_restarted_is_found_again(user, recorder, options):
    with dovecot() as own:
        own.append(user, mail("one"))
        async with watched(Mailbox(recorder, replace(options, url=own.url(user)))):
            await marked(own, user, 1)
            await asyncio.to_thread(own.stop)
            await asyncio.to_thread(own.start)
            own.append(user, mail("two"))
            await marked(own, user, 2)
    assert recorder.subjects() == ["one", "two"]


async def test_a_mailbox_made_anew_loses_and_doubles_nothing(server, user, recorder, options):
    """UIDVALIDITY changes and every mark is gone, as after a restore."""
    with server.client(user) as client:
        client.create_folder("Post")
    server.append(user, mail("one"), mail("two"), mailbox="Post")
    async with watched(Mailbox(recorder, replace(options, url=server.url(user, "Post"), poll=0.5))):
        await marked(server, user, 2, "Post")
        with server.client(user) as client:
            before = client.folder_status("Post", ["UIDVALIDITY"])
            client.delete_folder("Post")
            client.create_folder("Post")
            after = client.folder_status("Post", ["UIDVALIDITY"])
        assert before != after
        server.append(user, mail("new"), mail("two"), mail("one"), mailbox="Post")
        await marked(server, user, 3, "Post")
    assert len({arrived.id for arrived in recorder.taken}) == 3
    assert set(recorder.subjects()) == {"one", "two", "new"}


async def test_intake_killed_between_the_durable_write_and_the_mark_has_each_message_once(
    server: Dovecot, user: str, servers: Servers, tmp_path: Path
) -> None:
    relay = Relay(server.port)
    kills = 0
    async with relay.listening() as port:
        settings = {"INTAKE_IMAP_URL": server.url(user, port=port), "INTAKE_IMAP_PASSWORD": PASSWORD}
        async with running_intake(servers, tmp_path, settings) as intake:

            async def kill_before_mark(data: bytes) -> bool:
                nonlocal kills
                if b"STORE" not in data or kills == 2:
                    return True
                kills += 1
                await asyncio.to_thread(intake.process.kill)
                return False

            relay.on_word = kill_before_mark
            server.append(user, *[mail(f"kill{number}") for number in range(5)])
            for times in (1, 2):
                await eventually(lambda times=times: kills == times and not intake.process.running())
                unmarked = sum(MARK not in flags for flags in server.flags(user))
                assert unmarked == 5, "durable, but not marked"
                assert len(intake.messages()) >= 1
                await asyncio.to_thread(intake.process.start)
            await marked(server, user, 5)
            kept = intake.messages()
            assert sorted(document["state"]["subject"] for document in kept) == [f"kill{n}" for n in range(5)]
            assert {document["state"]["via"] for document in kept} == {"imap"}
