"""Watches a mailbox over IMAP: what is in it is accepted, and marked only then; nothing is ever deleted.

Which messages are done is told by a keyword on each of them, in the mailbox. Nothing of it is remembered here,
so a lost connection, a crash and a mailbox made anew (its UIDVALIDITY changes) all come to the same: what bears
no mark is accepted again, and intake knows what it had. Sources: RFC 3501, 2177 (IDLE), 6851 (MOVE).
"""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import structlog
from imapclient import IMAPClient, SocketTimeout
from imapclient.exceptions import IMAPClientAbortError, IMAPClientError
from pydantic import SecretStr

from services.intake.arrival import Accept, arriving_mail, where
from services.intake.domain import ArrivedMail
from services.intake.mail import Ours
from shared.store import Unavailable
from shared.supervise import stop, supervise

log = structlog.get_logger()

MARK = b"$MutualsAccepted"
PLAIN_MARK = rb"\Flagged"
"""For a server that keeps no keywords of ours. Not \\Seen: whoever opens the mailbox sets that."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MailboxOptions:
    """`url` is `imaps://user@host:993/INBOX`, or `imap://…`, where TLS is begun if the server offers it. What is
    done is moved to the folder `move_to` if there is one, and else stays where it is, marked.

    Sizes are in bytes, times in seconds. `poll` is the longest wait for news; with IDLE they come sooner.
    """

    url: str
    password: SecretStr
    move_to: str = ""
    ours: Ours = Ours()  # noqa: RUF009  (frozen)
    size_limit: int = 25 * 1024 * 1024
    poll: float = 60.0
    answer_timeout: float = 60.0
    accept_timeout: float = 30.0


class Mailbox:
    """One mailbox, watched for as long as `run` is not cancelled."""

    def __init__(self, accept: Accept, options: MailboxOptions) -> None:
        self._accept = accept
        self._options = options
        self._tries: Counter[tuple[int, int]] = Counter()
        """What gave trouble, by UIDVALIDITY and UID: it comes last, so that it is in nobody's way."""

    async def run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                async with _connected(self._options) as session:
                    log.info("mailbox_watched", idle=session.can_idle)
                    pause = FIRST_PAUSE
                    await self._watch(session)
            except (OSError, IMAPClientError) as error:
                # Not its own words: servers quote what they were sent.
                log.warning("mailbox_away", error=type(error).__name__, again_in=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _watch(self, session: "_Session") -> None:
        # News that came along with the answer to something else are not announced again, and IDLE would wait for
        # more: so the first looks follow one another soon.
        pause = FIRST_PAUSE
        while True:
            uids = await session.unmarked()
            uids.sort(key=lambda uid: (self._tries[session.validity, uid], uid))
            done = 0
            for uid in uids:
                done += await self._take(session, uid)
            if done:
                pause = FIRST_PAUSE
            else:
                await session.wait(min(pause, self._options.poll))
                pause *= 2

    async def _take(self, session: "_Session", uid: int) -> bool:
        """Accept one message, then mark it. False where that could not be had now: it is tried again."""
        key = (session.validity, uid)
        self._tries[key] += 1  # first: it may be this very message that ends the connection
        options = self._options
        try:
            raw = await session.fetch(uid, options.size_limit + 1)
            if raw is None:
                return False  # somebody has taken it out of the mailbox meanwhile
            whole, raw = len(raw) <= options.size_limit, raw[: options.size_limit]
            arrived = await arriving_mail(raw, via="imap", ours=options.ours, peer=session.host)
            async with asyncio.timeout(options.accept_timeout):
                await self._accept(arrived if whole else _told_as_cut(arrived))
            await session.mark(uid)
        except (Unavailable, TimeoutError) as error:
            log.warning("message_put_off", uid=uid, reason=type(error).__name__)
            return False
        except (OSError, IMAPClientAbortError):
            raise  # the connection is gone
        except Exception as error:
            log.error("message_not_accepted", uid=uid, error=type(error).__name__, where=where(error))
            return False
        del self._tries[key]
        return True


def _told_as_cut(arrived: ArrivedMail) -> ArrivedMail:
    """A message larger than the limit cannot be refused, since nobody waits for the answer. Its beginning is
    accepted, saying so; the whole stays in the mailbox."""
    log.warning("message_cut", id=arrived.id)
    problem = f"only its first {len(arrived.raw)} bytes were read; the whole is in the mailbox"
    told = "; ".join(filter(None, (problem, arrived.read.parse_error)))
    return replace(arrived, read=replace(arrived.read, parse_error=told))


class _Session:
    """One connection. The library blocks, so a thread of its own asks one thing after the other."""

    def __init__(
        self, client: IMAPClient, thread: ThreadPoolExecutor, host: str, mailbox: str, move_to: str
    ) -> None:
        self._client = client
        self._thread = thread
        self.host = host
        self._mailbox = mailbox
        self._move_to = move_to
        self._mark = MARK
        self.validity = 0
        self.can_idle = False

    async def open(self) -> None:
        self.can_idle = bool(await self._ask(lambda: self._client.has_capability("IDLE")))
        if self._move_to and not await self._ask(lambda: self._client.has_capability("MOVE")):
            log.warning("mailbox_cannot_move")
            self._move_to = ""
        elif self._move_to and not await self._ask(lambda: self._client.folder_exists(self._move_to)):
            await self._ask(lambda: self._client.create_folder(self._move_to))

    async def unmarked(self) -> list[int]:
        """Selects the mailbox anew: one that was deleted and made again would else be looked at for ever as it
        was, and seem empty."""
        found = await self._ask(lambda: self._client.select_folder(self._mailbox))
        self.validity = int(found.get(b"UIDVALIDITY", 0))
        allowed = found.get(b"PERMANENTFLAGS", ())
        self._mark = MARK if rb"\*" in allowed or MARK in allowed else PLAIN_MARK
        criteria = ["UNFLAGGED"] if self._mark == PLAIN_MARK else ["UNKEYWORD", self._mark.decode()]
        return [int(uid) for uid in await self._ask(lambda: self._client.search(criteria))]

    async def fetch(self, uid: int, size: int) -> bytes | None:
        """Its first so many bytes: a server's word for a size is not always true."""
        found = await self._ask(lambda: self._client.fetch([uid], [f"BODY.PEEK[]<0.{size}>"]))
        raw: bytes | None = found.get(uid, {}).get(b"BODY[]<0>")
        return raw

    async def mark(self, uid: int) -> None:
        if self._move_to:
            await self._ask(lambda: self._client.move([uid], self._move_to))
        else:
            await self._ask(lambda: self._client.add_flags([uid], [self._mark], silent=True))

    async def wait(self, seconds: float) -> None:
        """Until there may be news."""
        if self.can_idle:
            await self._ask(self._client.idle)
            await self._ask(lambda: self._client.idle_check(seconds))
            await self._ask(self._client.idle_done)
        else:
            await asyncio.sleep(seconds)
            await self._ask(self._client.noop)

    async def _ask(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


@asynccontextmanager
async def _connected(options: MailboxOptions) -> AsyncIterator[_Session]:
    url = urlsplit(options.url)
    host, timeout = url.hostname or "localhost", SocketTimeout(10.0, options.answer_timeout)

    def connect() -> IMAPClient:
        client = IMAPClient(host, url.port, ssl=url.scheme == "imaps", timeout=timeout)
        if url.scheme != "imaps" and client.has_capability("STARTTLS"):
            client.starttls()
        client.login(unquote(url.username or ""), options.password.get_secret_value())
        return client

    thread = ThreadPoolExecutor(1, "imap")
    client: Any = None
    try:
        client = await asyncio.get_running_loop().run_in_executor(thread, connect)
        mailbox = unquote(url.path.strip("/")) or "INBOX"
        session = _Session(client, thread, host, mailbox, options.move_to)
        await session.open()
        yield session
    finally:
        if client is not None:
            with suppress(OSError):
                client.socket().shutdown(socket.SHUT_RDWR)  # what the thread waits for ends with this
        thread.shutdown(wait=False)
        if client is not None:
            with suppress(OSError, IMAPClientError):
                client.shutdown()


@asynccontextmanager
async def watched(mailbox: Mailbox) -> AsyncIterator[None]:
    task = supervise("mailbox", mailbox.run)
    try:
        yield
    finally:
        await stop(task)
