"""A mail server that counts, and misbehaves when told to. Real SMTP over loopback, with as little work as can
be, because the benchmark runs it on the processors it measures.

    python -m tests.mailsink --port 2525 --report arrivals.jsonl

Each line of the report is one mail for one recipient: `at` (seconds since 1970), `message_id`, `in_reply_to`,
`reference` (of the enquiry, from the subject), `recipient`.
"""

import argparse
import asyncio
import json
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any, Literal, cast

_MESSAGE_ID = re.compile(rb"^message-id:\s*(<[^>\r\n]*>)", re.IGNORECASE | re.MULTILINE)
_IN_REPLY_TO = re.compile(rb"^in-reply-to:\s*(<[^>\r\n]*>)", re.IGNORECASE | re.MULTILINE)
_REFERENCE = re.compile(rb"^subject:.*?(MSP-[0-9A-Z]{4}-[0-9A-Z]{2})", re.IGNORECASE | re.MULTILINE)
_PATH = re.compile(rb"^(?:FROM|TO):\s*<([^>]*)>(.*)$", re.IGNORECASE)
_END = b"\r\n.\r\n"

Stage = Literal["MAIL", "RCPT", "DATA", "END"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """One mail kept, for one recipient. `message` is None where the sink was told to keep no bodies."""

    at: float
    message_id: str
    in_reply_to: str
    reference: str
    sender: str
    recipient: str
    message: bytes | None


@dataclass
class MisbehavingServer:
    """Well-behaved until one of these is set; each may be changed while it runs.

    busy, busy_stage    answer 451 to this many mails, when they come to this stage
    busy_until          answer 451 to every mail until this moment of `time.monotonic`
    greylist            answer 451 to each recipient's first mail
    refused             recipient → the answer to RCPT for it, such as `550 5.1.1 No such user`
    refuse_end          the answer to every whole message, such as `554 5.7.1 Looks like spam`
    drops, drop_keeps   cut the connection instead of answering so many whole messages, kept or not
    hang_up_greeting    close connections before saying anything
    greeting            what is said first
    slow                seconds before a whole message is answered
    extensions          what EHLO offers
    """

    host: str = "127.0.0.1"
    port: int = 0
    busy: int = 0
    busy_stage: Stage = "RCPT"
    busy_until: float = 0.0
    greylist: bool = False
    refused: dict[str, str] = field(default_factory=dict)
    refuse_end: str = ""
    drops: int = 0
    drop_keeps: bool = True
    hang_up_greeting: bool = False
    greeting: str = "220 sink.example ESMTP"
    slow: float = 0.0
    extensions: tuple[str, ...] = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 52428800")
    keep_messages: bool = True
    on_arrival: Callable[[Arrival], None] | None = None

    arrivals: list[Arrival] = field(default_factory=list)
    connections: int = 0
    attempts: int = 0

    def __post_init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._sessions: set[_Session] = set()
        self._seen: set[str] = set()

    async def __aenter__(self) -> "MisbehavingServer":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; the second time at the same port as the first."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Session(self), self.host, self.port, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and cut every connection, as a crash would."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for session in list(self._sessions):
            session.abort()
        # The aborted transports tell their protocols in the next turn of the loop.
        await asyncio.sleep(0)

    def hang_up(self, words: str = "") -> None:
        """Close every open connection in good order, as servers do with idle ones, after saying `words`."""
        for session in list(self._sessions):
            session.hang_up(words)

    @property
    def by_message_id(self) -> Counter[str]:
        return Counter(arrival.message_id for arrival in self.arrivals)

    @property
    def by_recipient(self) -> Counter[str]:
        return Counter(arrival.recipient for arrival in self.arrivals)

    def is_busy(self, stage: Stage, recipient: str) -> bool:
        if self.busy and stage == self.busy_stage:
            self.busy -= 1
            return True
        if stage != "RCPT":
            return False
        if self.greylist and recipient not in self._seen:
            self._seen.add(recipient)
            return True
        return time.monotonic() < self.busy_until

    def keep(self, sender: str, recipients: list[str], message: bytes) -> None:
        header = message[: message.find(b"\r\n\r\n") + 2]
        found = [pattern.search(header) for pattern in (_MESSAGE_ID, _IN_REPLY_TO, _REFERENCE)]
        message_id, in_reply_to, reference = (
            match[1].decode("ascii", "replace") if match else "" for match in found
        )
        at = time.time()
        for recipient in recipients:
            arrival = Arrival(
                at,
                message_id,
                in_reply_to,
                reference,
                sender,
                recipient,
                message if self.keep_messages else None,
            )
            self.arrivals.append(arrival)
            if self.on_arrival is not None:
                self.on_arrival(arrival)


class _Session(asyncio.Protocol):
    def __init__(self, server: MisbehavingServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._searched = 0
        self._in_message = False
        self._paused = False
        self._sender: str | None = None
        self._recipients: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not a check: uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._server.connections += 1
        if self._server.hang_up_greeting:
            transport.close()
            return
        self._server._sessions.add(self)
        self._say(self._server.greeting)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._server._sessions.discard(self)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def hang_up(self, words: str) -> None:
        if self._transport is not None:
            if words:
                self._say(words)
            self._transport.close()

    def _say(self, words: str) -> None:
        if self._transport is not None:
            self._transport.write(words.encode() + b"\r\n")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._work()

    def _work(self) -> None:
        while not self._paused and self._transport is not None and not self._transport.is_closing():
            if self._in_message:
                if not self._take_message():
                    return
            else:
                end = self._buffer.find(b"\r\n")
                if end < 0:
                    return
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 2]
                self._command(line)

    def _command(self, line: bytes) -> None:
        verb, _, rest = line.partition(b" ")
        match verb.upper():
            case b"MAIL":
                self._mail(rest)
            case b"RCPT":
                self._rcpt(rest)
            case b"DATA":
                self._data()
            case b"EHLO":
                self._reset()
                lines = ["sink.example", *self._server.extensions]
                self._say("\r\n".join([f"250-{line}" for line in lines[:-1]] + [f"250 {lines[-1]}"]))
            case b"HELO":
                self._reset()
                self._say("250 sink.example")
            case b"RSET":
                self._reset()
                self._say("250 2.0.0 OK")
            case b"NOOP":
                self._say("250 2.0.0 OK")
            case b"QUIT":
                self.hang_up("221 2.0.0 Bye")
            case _:
                self._say("502 5.5.1 Not understood")

    def _reset(self) -> None:
        self._sender = None
        self._recipients = []

    def _mail(self, rest: bytes) -> None:
        path = _PATH.match(rest)
        if path is None:
            self._say("501 5.5.4 Syntax")
        elif self._sender is not None:
            self._say("503 5.5.1 One mail at a time")
        elif self._server.is_busy("MAIL", ""):
            self._say("451 4.3.2 Busy, try again later")
        else:
            self._server.attempts += 1
            self._sender = path[1].decode()
            self._say("250 2.1.0 OK")

    def _rcpt(self, rest: bytes) -> None:
        path = _PATH.match(rest)
        if self._sender is None:
            self._say("503 5.5.1 MAIL first")
        elif path is None or not path[1]:
            self._say("501 5.5.4 Syntax")
        else:
            recipient = path[1].decode()
            if answer := self._server.refused.get(recipient):
                self._say(answer)
            elif self._server.is_busy("RCPT", recipient):
                self._say("451 4.3.2 Busy, try again later")
            else:
                self._recipients.append(recipient)
                self._say("250 2.1.5 OK")

    def _data(self) -> None:
        if not self._recipients:
            self._say("503 5.5.1 RCPT first")
        elif self._server.is_busy("DATA", ""):
            self._say("451 4.3.2 Busy, try again later")
        else:
            self._in_message = True
            self._searched = 0
            self._say("354 Go ahead")

    def _take_message(self) -> bool:
        if self._buffer.startswith(b".\r\n"):
            message, taken = b"", 3
        else:
            # Only what is new, and enough of the rest for an end mark that came in two pieces.
            end = self._buffer.find(_END, max(0, self._searched - len(_END)))
            if end < 0:
                self._searched = len(self._buffer)
                return False
            message, taken = bytes(self._buffer[: end + 2]), end + len(_END)
        del self._buffer[:taken]
        self._in_message = False
        sender, recipients = self._sender or "", self._recipients
        self._reset()
        if message.startswith(b".."):
            message = message[1:]
        self._finish(sender, recipients, message.replace(b"\r\n..", b"\r\n."))
        return True

    def _finish(self, sender: str, recipients: list[str], message: bytes) -> None:
        server = self._server
        if server.drops:
            server.drops -= 1
            if server.drop_keeps:
                server.keep(sender, recipients, message)
            self.abort()
        elif server.is_busy("END", ""):
            self._say("451 4.3.2 Busy, try again later")
        elif server.refuse_end:
            self._say(server.refuse_end)
        else:
            server.keep(sender, recipients, message)
            if not server.slow:
                self._say("250 2.0.0 Kept")
                return
            self._paused = True
            asyncio.get_running_loop().call_later(server.slow, self._answer_late)

    def _answer_late(self) -> None:
        self._paused = False
        self._say("250 2.0.0 Kept, at last")
        self._work()


class Report:
    """Arrivals as lines of JSON, written out 20 times a second rather than one by one."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._lines: list[str] = []
        self._due: asyncio.TimerHandle | None = None

    def __call__(self, arrival: Arrival) -> None:
        fields: dict[str, Any] = {
            "at": arrival.at,
            "message_id": arrival.message_id,
            "in_reply_to": arrival.in_reply_to,
            "reference": arrival.reference,
            "recipient": arrival.recipient,
        }
        self._lines.append(json.dumps(fields))
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(0.05, self.flush)

    def flush(self) -> None:
        self._due = None
        self._file.write("".join(f"{line}\n" for line in self._lines))
        self._file.flush()
        self._lines.clear()


async def _serve(host: str, port: int, file: IO[str]) -> None:
    report = Report(file)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    sink = MisbehavingServer(host=host, port=port, keep_messages=False, on_arrival=report)
    async with sink:
        print(f"counting mail at {sink.host}:{sink.port}", file=sys.stderr, flush=True)
        await stopped.wait()
    report.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description="A mail server that only counts.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one and says which")
    parser.add_argument("--report", default="-", help="file of JSON lines, added to; - is standard output")
    options = parser.parse_args()
    file = sys.stdout if options.report == "-" else open(options.report, "a", encoding="utf-8")  # noqa: PTH123, SIM115
    try:
        import uvloop  # noqa: PLC0415 - not needed, only faster
    except ImportError:
        asyncio.run(_serve(options.host, options.port, file))
    else:
        uvloop.run(_serve(options.host, options.port, file))


if __name__ == "__main__":
    main()
