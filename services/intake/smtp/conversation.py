"""One client's connection: the commands, the message, and what is answered to each."""

import asyncio
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Literal, NoReturn, cast

import structlog
from aiosmtpd.smtp import SMTP, Envelope

from services.intake.arrival import arriving_mail, where
from services.intake.mail.headers import is_address
from shared.store import Unavailable

if TYPE_CHECKING:
    from services.intake.smtp.listener import Listener

log = structlog.get_logger()

Protocol = Literal["smtp", "lmtp"]

END_OF_DATA = b"\r\n.\r\n"
READ_BYTES = 1024 * 1024  # more than the reader ever holds, so that one read empties it
READER_LIMIT = 64 * 1024
DISCARD_FACTOR = 4
"""A client whose message was found too large may send this many times the limit before it is cut off."""
PROXY_SECONDS = 10.0
LINGER_SECONDS = 5.0
"""How long a connection may take to close; a client that reads nothing would keep it for ever."""

ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3} ")
SIMPLE_ADDRESS = re.compile(r"<([A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+)>(?: (.*))?", re.DOTALL)
SYNTAX_CODES = {
    "500": "5.5.2",
    "501": "5.5.4",
    "502": "5.5.1",
    "503": "5.5.1",
    "530": "5.7.0",
    "552": "5.3.4",
}


class Refusal(asyncio.Protocol):
    """Answers a connection that is not wanted, without spending anything on it."""

    def __init__(self, reply: str) -> None:
        self._reply = reply

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writing = cast(asyncio.WriteTransport, transport)
        writing.write(self._reply.encode("ascii") + b"\r\n")
        writing.close()
        asyncio.get_running_loop().call_later(LINGER_SECONDS, writing.abort)


class _Hooks:
    """aiosmtpd looks for `handle_…` functions here; the conversation does everything itself."""

    async def handle_exception(self, error: Exception) -> str:
        log.error("smtp_command_failed", error=type(error).__name__, where=where(error))
        return "451 4.3.0 Try again later"


class Conversation(SMTP):
    """One client's connection."""

    line_length_limit = READER_LIMIT
    via: Protocol = "smtp"
    greeting_word = "ESMTP"

    def __init__(self, listener: "Listener") -> None:
        self.listener = listener
        self.busy = False
        self.client = ""
        options = listener.options
        # aiosmtpd keeps these limits in the class, where every greeting of every client raises them.
        self.command_size_limits = defaultdict(lambda: 1024)
        super().__init__(
            _Hooks(),
            data_size_limit=options.size_limit,
            enable_SMTPUTF8=True,
            hostname=options.hostname,
            ident=self.greeting_word,
            tls_context=options.tls,
            require_starttls=options.require_tls,
            timeout=options.idle_timeout,
            loop=asyncio.get_running_loop(),
        )
        self.gone: asyncio.Future[None] = self.loop.create_future()
        self._held = 0
        self._enhance = False

    def __dir__(self) -> list[str]:
        # The constructor inspects every attribute for each connection, which took longer than a message.
        return _COMMANDS if self.via == "smtp" else _LMTP_COMMANDS

    # The connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self in self.listener.connections:  # it comes here again after STARTTLS
            super().connection_made(transport)
            return
        peer = transport.get_extra_info("peername")
        peer = str(peer[0]) if isinstance(peer, tuple) else ""
        if self.listener.door.is_proxy(peer):
            self._proxy_timeout = PROXY_SECONDS  # who the client is, is said first
        elif refusal := self._enter(peer):
            refused = Refusal(refusal)
            transport.set_protocol(refused)
            refused.connection_made(transport)
            return
        super().connection_made(transport)
        self.listener.connections.add(self)
        assert self._handler_coroutine is not None
        self._handler_coroutine.add_done_callback(_forget_lost_connection)

    def _enter(self, client: str) -> str | None:
        if refusal := self.listener.door.enter(client):
            log.warning("client_refused", reply=refusal[:9])
            return refusal
        self.client = client
        return None

    def connection_lost(self, error: Exception | None) -> None:
        if self.client:
            self.listener.door.leave(self.client)
            self.client = ""
        self.listener.connections.discard(self)
        if not self.gone.done():
            self.gone.set_result(None)
        super().connection_lost(error)

    def bid_farewell(self, reply: str = "421 4.3.2 Closing, try again later") -> None:
        # Cast, not asked for: uvloop's transports are no instances of asyncio's classes.
        transport = cast(asyncio.WriteTransport | None, self.transport)
        if transport is not None and not transport.is_closing():
            transport.write(reply.encode() + b"\r\n")
            transport.close()
            self.loop.call_later(LINGER_SECONDS, self.cut_off)

    def cut_off(self) -> None:
        for transport in (self.transport, self._original_transport):
            if transport is not None:
                cast(asyncio.WriteTransport, transport).abort()

    def _timeout_cb(self) -> None:
        log.info("client_timed_out", busy=self.busy)
        self.bid_farewell("421 4.4.2 Timed out")

    async def push(self, status: "str | bytes") -> None:
        text = status if isinstance(status, str) else status.decode("utf-8", "replace")
        if self._enhance and not ENHANCED.match(text, 4):
            code = text[:3]
            text = f"{code} {SYNTAX_CODES.get(code, code[0] + '.0.0')} {text[4:]}"
        await super().push(text.encode("ascii", "replace"))

    # Commands

    async def smtp_EHLO(self, hostname: str) -> None:
        await self._greet("EHLO", hostname)

    async def smtp_HELO(self, hostname: str) -> None:
        self._enhance = False
        await super().smtp_HELO(hostname)

    async def _greet(self, verb: str, hostname: str) -> None:
        if not hostname:
            await self.push(f"501 5.5.4 Syntax: {verb} hostname")
            return
        self._set_rset_state()  # type: ignore[no-untyped-call]
        assert self.session is not None
        self.session.extended_smtp = True
        self.session.host_name = hostname
        lines = [
            self.hostname,
            f"SIZE {self.listener.options.size_limit}",
            "8BITMIME",
            "SMTPUTF8",
            "PIPELINING",
            "ENHANCEDSTATUSCODES",
        ]
        if self.tls_context and not self._tls_protocol:
            lines.append("STARTTLS")
        reply = "\r\n".join([*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}"])
        self._enhance = False  # RFC 2034 section 4: not on the greeting
        await super().push(reply)
        self._enhance = True

    async def smtp_RCPT(self, arg: str | None) -> None:
        assert self.envelope is not None
        if len(self.envelope.rcpt_tos) >= self.listener.options.max_recipients:
            await self.push("452 4.5.3 Too many recipients")
            return
        await super().smtp_RCPT(arg)

    async def _call_handler_hook(self, command: str, *args: Any) -> Any:
        if command == "RCPT":
            assert self.envelope is not None
            if refusal := self.listener.takes(args[0]):
                log.info("recipient_refused", reply=refusal[:9])
                return refusal
            self.envelope.rcpt_tos.append(args[0])
            return "250 2.1.5 OK"
        if command == "MAIL":
            assert self.envelope is not None
            sender = "" if args[0] == "<>" else args[0]
            if refusal := await self.listener.door.begin_message(self.client, sender):
                log.info("sender_put_off")
                return refusal
            return await super()._call_handler_hook(command, *args)
        if command == "PROXY":
            # Without an address it is the proxy itself, which asks whether we are well.
            peer = self.session.peer[0] if self.session and self.session.peer else ""
            if refusal := self._enter(str(args[0].src_addr or peer)):
                await super().push(refusal)
            return not refusal
        return await super()._call_handler_hook(command, *args)

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        # The library's parser of addresses takes longer than storing the message; ordinary ones go past it.
        if simple := SIMPLE_ADDRESS.fullmatch(arg):
            address, rest = simple[1], simple[2] or ""
        else:
            try:
                address, rest = super()._getaddr(arg)
            except Exception:  # it raises IndexError, among others, on what is no address
                return None, None
            if not address or address == "<>":
                return address, rest
        return (address, rest) if is_address(address) else (None, None)

    async def smtp_VRFY(self, _arg: str) -> None:
        await self.push("252 2.5.0 Cannot verify, send some mail")

    async def smtp_HELP(self, _arg: str) -> None:
        await self.push("214 2.0.0 See RFC 5321")

    async def smtp_AUTH(self, _arg: str) -> None:
        await self.push("502 5.5.1 Not implemented")

    async def smtp_EXPN(self, _arg: str) -> None:
        await self.push("502 5.5.1 Not implemented")

    # A message

    async def smtp_DATA(self, arg: str) -> None:
        if await self.check_helo_needed():
            return
        assert self.envelope is not None
        if not self.envelope.rcpt_tos:
            await self.push("503 5.5.1 Need RCPT first")
            return
        if arg:
            await self.push("501 5.5.4 Syntax: DATA")
            return
        self.busy = True
        try:
            await super().push("354 End data with <CR><LF>.<CR><LF>")
            envelope, self.envelope = self.envelope, self._create_envelope()
            raw = await self._receive()
            reply = raw if isinstance(raw, str) else await self._accept(raw, envelope)
            # LMTP: one reply for each recipient. They stand or fall together, since it is one write.
            replies = len(envelope.rcpt_tos) if self.via == "lmtp" else 1
            self._writer.write(f"{reply}\r\n".encode("ascii") * replies)
            await self._writer.drain()
        finally:
            self.busy = False
            self._hold(0)
        if self.listener.stopping:
            self.bid_farewell()

    async def _receive(self) -> bytes | str:
        """The message with its dots unstuffed, or the reply that says why there is none.

        Only CRLF . CRLF ends a message. A bare line feed is content: taking LF . LF for an end is what lets a
        message be smuggled inside another (CVE-2023-51764 and its siblings).
        """
        options = self.listener.options
        deadline = self.loop.time() + options.data_timeout
        buffer = bytearray(b"\r\n")  # so that a first line is found like every other
        received = 0
        refusal = ""
        while True:
            self._reset_timeout(max(0.01, min(options.idle_timeout, deadline - self.loop.time())))
            chunk = await self._reader.read(READ_BYTES)
            if not chunk:
                await self._never()
            received += len(chunk)
            searched = max(0, len(buffer) - len(END_OF_DATA) + 1)
            buffer += chunk
            end = buffer.find(END_OF_DATA, searched)
            if end >= 0:
                if rest := bytes(buffer[end + len(END_OF_DATA) :]):
                    self._reader.feed_data(rest)  # commands that were sent ahead (RFC 2920)
                break
            if not refusal:
                refusal = self._refusal(len(buffer) - len(END_OF_DATA))
            if refusal:
                del buffer[: -len(END_OF_DATA) + 1]
                if received > DISCARD_FACTOR * options.size_limit + READER_LIMIT:
                    self.bid_farewell(f"421{refusal[3:]}")
                    await self._never()
            self._hold(len(buffer))
        self._reset_timeout()
        if refusal := refusal or self._refusal(end):
            log.info("message_refused", reply=refusal[:9], size=received)
            return refusal
        return bytes(buffer[: end + 2]).replace(b"\r\n.", b"\r\n")[2:]

    def _refusal(self, size: int) -> str:
        options = self.listener.options
        if size > options.size_limit:
            return "552 5.3.4 The message is too large"
        if self.listener.bytes_in_hand - self._held + size > options.memory_limit:
            return "452 4.3.1 Too much mail at once, try again later"
        return ""

    def _hold(self, size: int) -> None:
        """Account for the bytes of the message in hand."""
        self.listener.bytes_in_hand += size - self._held
        self._held = size

    async def _never(self) -> NoReturn:
        """The connection is closing: its end cancels this conversation."""
        await asyncio.get_running_loop().create_future()
        raise ConnectionResetError

    async def _accept(self, raw: bytes, envelope: Envelope) -> str:
        options = self.listener.options
        assert self.session is not None
        # The library stops the clock for nobody; what follows is bounded here.
        self._reset_timeout(options.accept_timeout + options.idle_timeout)
        try:
            async with asyncio.timeout(options.accept_timeout):
                arrived = await arriving_mail(
                    raw,
                    via=self.via,
                    ours=options.ours,
                    peer=self.client,
                    mail_from="" if envelope.mail_from in (None, "<>") else envelope.mail_from,
                    rcpt_tos=tuple(envelope.rcpt_tos),
                )
                await self.listener.accept(arrived)
        except (Unavailable, TimeoutError) as error:
            log.warning("message_put_off", reason=type(error).__name__)
            return "451 4.3.0 Cannot store the message now, try again later"
        except Exception as error:
            # Nothing is durable, so nothing is promised: the client keeps the message and tries again.
            log.error("message_not_accepted", error=type(error).__name__, where=where(error))
            return "451 4.3.0 Cannot store the message now, try again later"
        return f"250 2.0.0 Accepted {arrived.id}"


class LmtpConversation(Conversation):
    via: Protocol = "lmtp"
    greeting_word = "LMTP"

    async def smtp_LHLO(self, hostname: str) -> None:
        await self._greet("LHLO", hostname)

    async def check_helo_needed(self, helo: str = "LHLO") -> bool:
        return bool(await super().check_helo_needed(helo))


_COMMANDS = [name for name in dir(Conversation) if name.startswith("smtp_")]
_LMTP_COMMANDS = sorted({*_COMMANDS, "smtp_LHLO"} - {"smtp_EHLO", "smtp_HELO"})


def _forget_lost_connection(task: "asyncio.Task[None]") -> None:
    """A client that went away is no failure; without this asyncio reports its task as one."""
    if (
        not task.cancelled()
        and (error := task.exception())
        and not isinstance(error, ConnectionError | EOFError)
    ):
        log.error("smtp_conversation_failed", error=type(error).__name__, where=where(error))
