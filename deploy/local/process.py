"""One server as a process of ours: started, stopped, killed, frozen, and never left behind."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

LOOPBACK = "127.0.0.1"
KEEPER = Path(__file__).with_name("keeper.py")
GRACE_SECONDS = 10.0

Say = Callable[[str], None]


class ServersError(Exception):
    """A server can't be had, reached or controlled. The message says what to do about it."""


class Control(Protocol):
    """How one server is stopped and started again with its data and ports as they were; a test's levers."""

    kind: str

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...
    def trouble(self) -> str | None:
        """Why the server will never be ready, or None while it still may."""

    def release(self, *, keep: bool) -> None:
        """After the last stop: let go of what was held for it; of its data too, unless `keep`."""


class Given:
    """A server that somebody else runs: used, never started or stopped."""

    kind = "given"

    def __init__(self, what: str) -> None:
        self._what = what

    def _refuse(self) -> None:
        raise ServersError(f"{self._what} was given by URL and is not ours to stop or start")

    def start(self) -> None:
        self._refuse()

    def stop(self) -> None:
        self._refuse()

    def kill(self) -> None:
        self._refuse()

    def freeze(self) -> None:
        self._refuse()

    def thaw(self) -> None:
        self._refuse()

    def trouble(self) -> str | None:
        return None

    def release(self, *, keep: bool) -> None:
        """Nothing of it is ours."""


def free_port(preferred: int | None = None) -> int:
    """`preferred` where nobody listens on it, on any address; else a port that is free now. Loopback only."""
    for port in (preferred, 0) if preferred else (0,):
        with socket.socket() as probe:
            # As servers do: else a port is "taken" for a minute after the last run.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ServersError("no free port on the loopback address")


def quiet(line: str) -> None:
    """Says nothing."""


def claim_port(preferred: int | None = None, what: str = "", say: Say = quiet) -> tuple[int, socket.socket]:
    """As `free_port`, and no other run of ours takes it while the second part is open.

    A broker listens only seconds after its port was chosen. Two runs that start together would choose the
    same, and the slower one would talk to the other's broker. The claim is a name in the kernel, gone with
    its owner.
    """
    wanted = preferred
    while True:
        port = free_port(preferred)
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0mutuals-port-{port}")
        except OSError:
            claim.close()
            preferred = None
        else:
            if wanted and port != wanted:
                say(f"port {wanted} is taken; {what} uses {port}")
            return port, claim


def answers(port: int) -> bool:
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1):
            return True
    except OSError:
        return False


class Server(ABC):
    """What is there however a server is had."""

    def __init__(self, control: Control) -> None:
        self.control = control

    @property
    def kind(self) -> str:
        return self.control.kind

    @abstractmethod
    def wait_ready(self) -> None:
        """Return once it answers. Raises `ServersError`."""

    def start(self) -> None:
        """Returns when it answers again; data and ports are as they were."""
        self.control.start()
        self.wait_ready()

    def stop(self) -> None:
        self.control.stop()

    def kill(self) -> None:
        self.control.kill()

    def freeze(self) -> None:
        self.control.freeze()

    def thaw(self) -> None:
        self.control.thaw()


def wait_until(ready: Callable[[], bool], *, seconds: float, what: str, control: Control) -> None:
    """Raises `ServersError` when the time is over, or as soon as the server can't become ready any more."""
    deadline = time.monotonic() + seconds
    while not ready():
        trouble = control.trouble()
        if trouble is None and time.monotonic() > deadline:
            trouble = f"not ready within {seconds:.0f} s"
        if trouble is not None:
            raise ServersError(f"{what} did not start: {trouble}")
        time.sleep(0.05)


class Process:
    """A child under a keeper (keeper.py), in a session of its own so that Ctrl-C on the terminal passes it
    by.

    `hold` are descriptors the keeper keeps open: a lock so held is free only when the server is really gone.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        hold: Sequence[int] = (),
        grace: float = GRACE_SECONDS,
    ) -> None:
        self._grace = grace
        self._log = log
        with log.open("ab") as output:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", str(KEEPER), str(grace), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=env,
                cwd="/",
                start_new_session=True,
                pass_fds=tuple(hold),
            )
        assert self._keeper.stdout is not None
        with self._keeper.stdout as answer:
            first = answer.readline().strip()
        if not first:
            self._keeper.wait()
            self._close()
            raise ServersError(f"{command[0]} could not be run: {self.last_words(1)}")
        self.pid = int(first)

    def running(self) -> bool:
        return self._keeper.poll() is None

    def last_words(self, lines: int = 8) -> str:
        with contextlib.suppress(OSError):
            said = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
            return "\n".join(said[-lines:])
        return ""

    def stop(self) -> None:
        """Asks, waits, then kills; returns when it and all it started are gone."""
        self._signal(signal.SIGCONT)  # a frozen process would never hear the request
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._keeper.wait(self._grace)
        self.kill()

    def kill(self) -> None:
        """SIGKILL, and returns when it is gone."""
        self._signal(signal.SIGKILL)
        self._keeper.wait()
        self._close()

    def freeze(self) -> None:
        """Returns when it stands still: the signal reaches each thread only at that one's next turn."""
        self._signal(signal.SIGSTOP)
        while self.running() and not self._stands_still():
            time.sleep(0.005)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _stands_still(self) -> bool:
        try:
            threads = [file.read_text() for file in Path(f"/proc/{self.pid}/task").glob("*/stat")]
        except OSError:  # a thread, or all of it, has just ended
            return False
        # After the command's name, which is in brackets and may hold anything: the state.
        return all(stat.rpartition(")")[2].split()[0] == "T" for stat in threads)

    def _signal(self, number: signal.Signals) -> None:
        if self._keeper.poll() is None:  # else the number may be another process's by now
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _close(self) -> None:
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()
