"""Listens on one address, and keeps what its clients have in common: options, limits, bytes in hand."""

import asyncio
import logging
import ssl
from dataclasses import dataclass

import structlog

from services.intake.arrival import Accept
from services.intake.mail import Ours
from services.intake.smtp.conversation import Conversation, LmtpConversation, Protocol, Refusal
from services.intake.smtp.door import Door, DoorOptions

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ListenerOptions:
    """`recipients` are what mail is accepted for: whole addresses, or domains (`example.org`).

    Sizes are in bytes, times in seconds. `memory_limit` bounds all messages being received, taken together.
    `idle_timeout` is the wait for a command or for more of a message (RFC 5321 section 4.5.3.2.7 asks for at
    least 300 s towards strangers); `data_timeout` bounds one whole message.
    """

    recipients: frozenset[str]
    hostname: str = "localhost"
    protocol: Protocol = "smtp"
    ours: Ours = Ours()  # noqa: RUF009  (frozen)
    size_limit: int = 25 * 1024 * 1024
    memory_limit: int = 256 * 1024 * 1024
    door: DoorOptions = DoorOptions()  # noqa: RUF009  (frozen)
    max_recipients: int = 100
    idle_timeout: float = 300.0
    data_timeout: float = 600.0
    accept_timeout: float = 30.0
    tls: ssl.SSLContext | None = None
    require_tls: bool = False


class Listener:
    """Listens on one address. `start` and `stop` belong to the event loop that serves everything else."""

    def __init__(self, accept: Accept, options: ListenerOptions) -> None:
        if not options.recipients:
            raise ValueError("a listener without recipients would refuse every message")
        if options.require_tls and options.tls is None:
            raise ValueError("TLS cannot be required without a certificate")
        self.accept = accept
        self.options = options
        self.door = Door(options.door)
        self.stopping = False
        self.connections: set[Conversation] = set()
        self.bytes_in_hand = 0
        self._recipients = frozenset(recipient.lower() for recipient in options.recipients)
        self._domains = frozenset(recipient.rpartition("@")[2] for recipient in self._recipients)
        self._server: asyncio.Server | None = None
        # The library logs every command with its addresses. What an operator needs, this module logs itself.
        logging.getLogger("mail.log").setLevel(logging.CRITICAL)

    @property
    def port(self) -> int:
        """The port listened on, for one that was asked for as 0."""
        if self._server is None:
            raise RuntimeError("the listener has not been started")
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, host, port, backlog=512)
        log.info("listener_started", protocol=self.options.protocol, port=self.port)

    async def stop(self, within: float = 10.0) -> None:
        """Take no new connection, finish the messages in hand within the time given, and close with 421."""
        if self._server is None:
            return
        self.stopping = True
        self._server.close()
        for connection in tuple(self.connections):
            if not connection.busy:
                connection.bid_farewell()
        await self._all_gone(within)
        for connection in tuple(self.connections):
            connection.bid_farewell()
        await self._all_gone(0.5)
        for connection in tuple(self.connections):
            connection.cut_off()
        await self._all_gone(0.5)
        log.info("listener_stopped", protocol=self.options.protocol)

    async def _all_gone(self, within: float) -> None:
        if self.connections:
            await asyncio.wait([connection.gone for connection in self.connections], timeout=within)

    def takes(self, address: str) -> str | None:
        """None where mail for `address` is accepted, else the reply that refuses it."""
        local, _, domain = address.lower().rpartition("@")
        plain = f"{local.partition('+')[0]}@{domain}"  # the part after + is for threads
        if {address.lower(), plain, domain} & self._recipients:
            return None
        return "550 5.1.1 No such address here" if domain in self._domains else "550 5.7.1 Not a relay"

    def _connection(self) -> asyncio.Protocol:
        if self.stopping or len(self.connections) >= self.options.door.connections:
            log.warning("connection_refused", connections=len(self.connections))
            return Refusal("421 4.3.2 Too busy, try again later")
        kind = LmtpConversation if self.options.protocol == "lmtp" else Conversation
        return kind(self)
