"""A load generator: sends enquiries over SMTP at full speed or at a steady rate, and notes when each was accepted.

    python -m tests.benchmarks.load --port 2525 --messages FILE --report accepted.jsonl -n 2000 --rate 100

Each line of the report is one accepted message: `at` (seconds since 1970, when 250 was read) and `message_id`.
"""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TextIO

import uvloop

ADDRESS = b"enquiries@programme.example"


class Refused(Exception):
    """The server did not answer as hoped."""


class Client:
    """One SMTP connection that is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, port: int, greeting: bytes = b"EHLO") -> "Client":
        client = cls(*await asyncio.open_connection("127.0.0.1", port))
        await client._expect(b"220")
        await client._say(greeting + b" load.example", b"250")
        return client

    async def send(self, message: bytes) -> None:
        await self._say(b"MAIL FROM:<load@sender.example>", b"250")
        await self._say(b"RCPT TO:<" + ADDRESS + b">", b"250")
        await self._say(b"DATA", b"354")
        await self._say(message + b".", b"250")

    async def quit(self) -> None:
        await self._say(b"QUIT", b"221")
        self.close()

    def close(self) -> None:
        self._writer.close()

    async def _say(self, line: bytes, expected: bytes) -> None:
        self._writer.write(line + b"\r\n")
        await self._expect(expected)

    async def _expect(self, code: bytes) -> None:
        while True:
            line = await self._reader.readline()
            if not line.startswith(code):
                raise Refused(line.decode("latin-1") or "closed")
            if line[3:4] != b"-":
                return


async def numbers(n: int, rate: float) -> AsyncIterator[int]:
    """0 to n - 1, each when it is due; all at once where `rate` is 0."""
    started = time.perf_counter()
    for number in range(n):
        if rate and (wait := started + number / rate - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        yield number


def written(body: str, message_id: str) -> bytes:
    """One message: each has an id of its own, and a writer, because one writer is acknowledged but so often a
    day."""
    number = "".join(character for character in message_id.partition("@")[0] if character.isalnum())
    return body.replace("@MESSAGE-ID@", message_id).replace("@WRITER@", number).encode()


async def send_all(
    port: int,
    bodies: list[str],
    n: int,
    rate: float,
    connections: int,
    tag: str,
    report: TextIO,
    *,
    lmtp: bool = False,
) -> None:
    waiting: asyncio.Queue[int | None] = asyncio.Queue(connections * 2)

    async def work() -> None:
        client = await Client.connect(port, b"LHLO" if lmtp else b"EHLO")
        while (number := await waiting.get()) is not None:
            message_id = f"<{tag}.{number}@load.example>"
            await client.send(written(bodies[number % len(bodies)], message_id))
            report.write(json.dumps({"at": time.time(), "message_id": message_id}) + "\n")
        await client.quit()

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(work())
        async for number in numbers(n, rate):
            await waiting.put(number)
        for _ in range(connections):
            await waiting.put(None)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument(
        "--messages", type=Path, required=True, help="JSON list of messages with @MESSAGE-ID@ and @WRITER@"
    )
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=0.0, help="messages a second; 0 is as fast as it goes")
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--tag", default="load")
    given = parser.parse_args()
    bodies = json.loads(given.messages.read_text())
    with given.report.open("w") as report:
        uvloop.run(send_all(given.port, bodies, given.n, given.rate, given.connections, given.tag, report))


if __name__ == "__main__":
    main()
