"""A mail server for one machine: takes every mail over SMTP and keeps it in a Maildir, where any mail reader
finds it.

python -m deploy.local.mailserver --port 2526 --maildir .local/mail

It says where it listens once it does, and nothing after that. It delivers nothing to anybody else.
"""

import argparse
import asyncio
import itertools
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

from deploy.local.process import Process, ServersError, answers

LARGEST = 50 * 1024 * 1024
START_SECONDS = 20.0
ROOT = Path(__file__).resolve().parents[2]


class Maildir:
    """The three folders of https://cr.yp.to/proto/maildir.html: a mail is written to `tmp`, made durable and
    then renamed into `new`, so that a reader sees it whole or not at all, whatever is killed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._count = itertools.count()
        for folder in ("tmp", "new", "cur"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        # What a killed server left half written. No one else writes here.
        for left_over in (root / "tmp").iterdir():
            left_over.unlink()

    def keep(self, message: bytes) -> Path:
        """Durable when it returns. Safe to call from several threads."""
        # The name holds time, process and count, as the convention asks; instead of the host's name a fixed
        # word.
        name = f"{time.time_ns() // 1_000_000_000}.M{time.time_ns() // 1000 % 1_000_000}"
        name += f"P{os.getpid()}Q{next(self._count)}.local"
        written = self.root / "tmp" / name
        with written.open("xb") as file:
            file.write(message)
            file.flush()
            os.fsync(file.fileno())
        kept = self.root / "new" / name
        written.rename(kept)
        folder = os.open(kept.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return kept


class _Keeper:
    """What aiosmtpd calls for each mail."""

    def __init__(self, maildir: Maildir) -> None:
        self._maildir = maildir
        self._busy = 0
        self.idle = asyncio.Event()
        self.idle.set()

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        # One copy for all recipients: this is one mailbox for a whole machine. The header lines say who they
        # were.
        lines = [f"Return-Path: <{_printable(envelope.mail_from or '')}>"]
        lines += [f"Delivered-To: {_printable(recipient)}" for recipient in envelope.rcpt_tos]
        self._busy += 1
        self.idle.clear()
        try:
            header = "".join(f"{line}\r\n" for line in lines).encode()
            await asyncio.to_thread(self._maildir.keep, header + content)
        except OSError:
            return "451 4.3.0 The mail could not be written"
        finally:
            self._busy -= 1
            if not self._busy:
                self.idle.set()
        return "250 2.0.0 Kept"


def _printable(address: str) -> str:
    return re.sub(r"[^\x21-\x7e\xa1-\U0010ffff]", "?", address)


async def serve(host: str, port: int, maildir: Path) -> None:
    """Serve until SIGTERM or SIGINT, then finish the mails in hand."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    keeper = _Keeper(Maildir(maildir))
    # Its own name is given because looking it up asks the name server, which takes seconds where there is
    # none.
    session = partial(
        SMTP, keeper, data_size_limit=LARGEST, enable_SMTPUTF8=True, hostname="mail.local.invalid", loop=loop
    )
    server = await loop.create_server(session, host, port)
    print(f"mail server at {host}:{server.sockets[0].getsockname()[1]}, mail in {maildir}", flush=True)
    await stopped.wait()
    server.close()
    with suppress(TimeoutError):
        async with asyncio.timeout(5):
            await keeper.idle.wait()
    # The mails are kept; the sessions still have to say so, or their senders will send them again.
    await asyncio.sleep(0.05)


@contextmanager
def mail_server(port: int, maildir: Path, log: Path) -> Iterator[None]:
    """A mail server as a process, for as long as this lasts. Raises `ServersError` where it does not start."""
    server = Process(
        [
            sys.executable,
            "-P",
            "-m",
            "deploy.local.mailserver",
            "--port",
            str(port),
            "--maildir",
            str(maildir),
        ],
        log=log,
        env={
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            "LANG": "C.UTF-8",
        },
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers(port):
            if not server.running() or time.monotonic() > deadline:
                raise ServersError(
                    f"the mail server did not start. The end of its log ({log}):\n{server.last_words()}"
                )
            time.sleep(0.05)
        yield
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="Takes mail over SMTP and keeps it in a Maildir.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one and says which")
    parser.add_argument("--maildir", type=Path, required=True)
    options = parser.parse_args()
    asyncio.run(serve(options.host, options.port, options.maildir))


if __name__ == "__main__":
    main()
