"""Hands messages to the mail server over a few connections that are kept open, and says what came of each.

Measured here against a local server: a connection for each mail costs nearly three times the processor time
of a mail on a connection that is open already. The commands are sent one by one through aiosmtplib: its
`sendmail` parses each address four times and the message twice, and it cannot pipeline.
"""

import asyncio
import re
import ssl
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, cast

import aiosmtplib
from aiosmtplib import SMTPException, SMTPResponseException, SMTPServerDisconnected
from aiosmtplib.response import SMTPResponse

from services.notifications.domain import Accepted, Broken, Refused

# Answers that are about us and not about the mail (RFC 4954 §6: sign in first, or not like that). A password
# changed at the wrong end must not turn every mail of that hour into a failure.
_NOT_LET_IN: Final = frozenset({530, 534, 535, 538})
_CLOSING: Final = 421

# What would end an address, or the line it stands in. `compose` has looked already; this is the door itself.
_UNSAFE: Final = re.compile("[\x00-\x20<>\x7f-\xa0\ud800-\udfff]")

Result = Accepted | Refused | Broken


@dataclass(frozen=True)
class Server:
    """Which mail server, and how it is spoken to.

    `security`: `starttls` upgrades before anything is said and gives up if the server cannot; `tls` from the
    first octet; `none` only for a server on the same machine or network, and never with a password.
    """

    host: str
    port: int
    security: Literal["none", "starttls", "tls"] = "none"
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: Path | None = None
    our_name: str = "localhost"

    def __post_init__(self) -> None:
        if self.username and self.security == "none":
            raise ValueError(
                "a mail server's password may only be sent over TLS: set security to starttls or tls"
            )


@dataclass(frozen=True)
class Limits:
    """How much at once, and how long.

    `connections`: most to hold open. `idle`: seconds after which an unused one is closed (servers do after 5
    minutes or sooner). `mails`: how many go over one connection. `connect`: seconds to reach the server and
    be let in. `attempt`: seconds for one mail altogether, the wait for a free connection included. It bounds
    everything, so the lease of a notification must be longer. RFC 5321 §4.5.3.2.6 gives a server 10 minutes
    to answer a whole message; whoever waits for less may send one twice. A minute is a compromise: relays of
    one's own answer in a second.
    """

    connections: int = 8
    idle: float = 30.0
    mails: int = 200
    connect: float = 10.0
    attempt: float = 60.0


class _Connection:
    """One open connection, with what the pool has to know about it."""

    __slots__ = ("client", "idle_since", "used")

    def __init__(self, client: aiosmtplib.SMTP) -> None:
        self.client = client
        self.used = 0
        self.idle_since = 0.0

    def drop(self) -> None:
        """Close at once. Not politely: a server that has stopped reading would never let a polite close
        end."""
        transport = self.client.transport
        if transport is not None:
            cast(asyncio.WriteTransport, transport).abort()
        self.client.close()

    async def leave(self) -> None:
        with suppress(SMTPException, OSError):
            await self.client.quit(timeout=2)
        self.drop()


@dataclass
class _Progress:
    """How far one mail has got, for whoever has to explain that time ran out."""

    step: str = "waiting for a free connection"
    uncertain: bool = False


class _WentStale(Exception):
    """The server had closed a connection that was kept open: nothing was tried yet."""


class Mailer:
    """Sends messages; safe to use from many tasks at once. Close it when done.

    >>> async with Mailer(Server("mail.example", 587, security="starttls")) as mailer:
    ...     result = await mailer.send(letter.message, letter.sender, letter.recipient)
    """

    def __init__(self, server: Server, limits: Limits = Limits()) -> None:
        self._server = server
        self._limits = limits
        self._slots = asyncio.Semaphore(limits.connections)
        self._idle: list[_Connection] = []
        self._leaving: set[asyncio.Task[None]] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False
        # Once: reading the certificates of the system takes tens of milliseconds.
        self._tls = None if server.security == "none" else ssl.create_default_context(cafile=server.ca_file)
        self.connections_opened = 0

    async def __aenter__(self) -> "Mailer":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def patience(self) -> float:
        """The longest `send` can take, in seconds."""
        return self._limits.attempt

    async def send(self, message: bytes, sender: str, recipient: str) -> Result:
        """Hand over one message to one recipient. Never raises, except when cancelled.

        `message` is a whole RFC 5322 message with CRLF line ends. Addresses that are not ASCII are sent only
        to a server that offers SMTPUTF8 (RFC 6531), and are refused for good by any other.
        """
        if _UNSAFE.search(sender) or not recipient or _UNSAFE.search(recipient):
            return Refused(False, 501, "The address holds characters that no mail server may be given.")
        progress = _Progress()
        try:
            async with asyncio.timeout(self._limits.attempt), self._slots:
                if self._closed:
                    return Broken("This service is stopping.")
                return await self._send(message, sender, recipient, progress)
        except TimeoutError:
            words = f"Time ran out after {self._limits.attempt:g} s while {progress.step}"
        except (SMTPException, OSError, ValueError) as error:
            words = _words(error)
        return Broken(words, uncertain=progress.uncertain)

    async def close(self) -> None:
        """Let the mails in hand finish, then take leave of the server on every connection."""
        self._closed = True
        for _ in range(self._limits.connections):
            await self._slots.acquire()
        for _ in range(self._limits.connections):
            self._slots.release()
        if self._sweep is not None:
            self._sweep.cancel()
        idle, self._idle = self._idle, []
        await asyncio.gather(*(connection.leave() for connection in idle), *self._leaving)

    # One mail

    async def _send(self, message: bytes, sender: str, recipient: str, progress: _Progress) -> Result:
        connection = self._take()
        if connection is not None:
            try:
                return await self._use(connection, message, sender, recipient, progress)
            except _WentStale:
                # The others have been idle for longer, so they are gone as well, most likely: look no
                # further.
                pass
        progress.step = "connecting"
        return await self._use(await self._connect(), message, sender, recipient, progress)

    async def _use(
        self, connection: _Connection, message: bytes, sender: str, recipient: str, progress: _Progress
    ) -> Result:
        try:
            result = await self._transact(connection, message, sender, recipient, progress)
        except BaseException:
            # Whatever it was, a cancelled task included: the next answer read would be the answer to this
            # mail.
            connection.drop()
            raise
        self._give_back(connection)
        return result

    async def _transact(
        self, connection: _Connection, message: bytes, sender: str, recipient: str, progress: _Progress
    ) -> Result:
        client = connection.client
        options = []
        encoding = "ascii"
        if not (sender.isascii() and recipient.isascii()):
            if not client.supports_extension("smtputf8"):
                return Refused(
                    False, 553, "The mail server does not take addresses that are not ASCII (SMTPUTF8)."
                )
            options.append(b"SMTPUTF8")
            encoding = "utf-8"
        if client.supports_extension("size"):
            options.append(b"SIZE=%d" % len(message))

        progress.step = "giving the sender"
        try:
            answer = await _command(client, b"MAIL", b"FROM:<%b>" % sender.encode(encoding), *options)
        except SMTPServerDisconnected as error:
            if connection.used:
                raise _WentStale from error
            raise
        if answer.code == _CLOSING and connection.used:
            raise _WentStale
        connection.used += 1
        if answer.code != 250:
            return await self._refused(client, answer)

        progress.step = "giving the recipient"
        answer = await _command(client, b"RCPT", b"TO:<%b>" % recipient.encode(encoding))
        if answer.code not in (250, 251):
            return await self._refused(client, answer)

        progress.step = "waiting for the answer to the message"
        # aiosmtplib does DATA and the message in one, so what breaks just before the message counts as
        # uncertain too. That errs to the safe side: the next try carries the same Message-ID either way.
        progress.uncertain = True
        try:
            answer = await client.data(message, timeout=None)
        except SMTPResponseException as error:
            answer = SMTPResponse(error.code, error.message)
        if 200 <= answer.code <= 299:
            return Accepted(f"{answer.code} {answer.message}")
        if not 400 <= answer.code <= 599:
            raise SMTPException(f"The mail server answered what is no answer: {answer.code} {answer.message}")
        progress.uncertain = False
        return await self._refused(client, answer)

    async def _refused(self, client: aiosmtplib.SMTP, answer: SMTPResponse) -> Result:
        if client.is_connected and answer.code != _CLOSING:
            # Otherwise the next mail would be added to what is left of this one.
            try:
                reset = await _command(client, b"RSET")
                usable = reset.code == 250
            except SMTPException:
                usable = False
        else:
            usable = False
        if not usable:
            client.close()
        words = f"{answer.code} {answer.message}"
        if answer.code in _NOT_LET_IN or not 400 <= answer.code <= 599:
            return Broken(words)
        return Refused(answer.code < 500, answer.code, words)

    # The pool

    def _take(self) -> _Connection | None:
        # The one used last: it is the least likely to have been closed, and the rest can grow old and go.
        oldest = asyncio.get_running_loop().time() - self._limits.idle
        while self._idle:
            connection = self._idle.pop()
            if not connection.client.is_connected:
                continue
            if connection.idle_since < oldest:
                self._dismiss(connection)
                continue
            return connection
        return None

    def _give_back(self, connection: _Connection) -> None:
        if not connection.client.is_connected:
            return
        if self._closed or connection.used >= self._limits.mails:
            self._dismiss(connection)
            return
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = loop.call_later(self._limits.idle, self._sweep_idle)

    def _sweep_idle(self) -> None:
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self._limits.idle
        for connection in [connection for connection in self._idle if connection.idle_since <= oldest]:
            self._idle.remove(connection)
            self._dismiss(connection)
        # Oldest first in the list, as a stack keeps them.
        self._sweep = None
        if self._idle:
            wait = self._idle[0].idle_since + self._limits.idle - loop.time()
            self._sweep = loop.call_later(max(wait, 0.1), self._sweep_idle)

    def _dismiss(self, connection: _Connection) -> None:
        task = asyncio.get_running_loop().create_task(connection.leave())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _connect(self) -> _Connection:
        server = self._server
        client = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            # Given, because looking it up asks the name server in a thread for every connection.
            local_hostname=server.our_name,
            use_tls=server.security == "tls",
            start_tls=server.security == "starttls",
            tls_context=self._tls,
            username=server.username or None,
            password=server.password or None,
            timeout=self._limits.connect,
        )
        try:
            await _within(self._limits.connect, _open(client))
        except BaseException:
            _Connection(client).drop()
            raise
        self.connections_opened += 1
        return _Connection(client)


async def _open(client: aiosmtplib.SMTP) -> None:
    await client.connect()
    if client.is_ehlo_or_helo_needed:
        try:
            await client.ehlo()
        except aiosmtplib.SMTPHeloError:
            await client.helo()


async def _within(seconds: float, work: Awaitable[None]) -> None:
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError as error:
        if isinstance(error, SMTPException):
            raise
        raise SMTPException(f"Could not reach the mail server within {seconds:g} s") from error


async def _command(client: aiosmtplib.SMTP, *words: bytes) -> SMTPResponse:
    # Without a time limit of its own: `Mailer.send` has one for everything, and a timer per command costs.
    return await client.execute_command(*words, timeout=None)


def _words(error: BaseException) -> str:
    if isinstance(error, SMTPResponseException):
        return f"{error.code} {error.message}"
    return str(error) or type(error).__name__
