"""Runs one server for a parent and ends it, and all it started, when the parent is gone, however the parent
went.

`keeper.py GRACE COMMAND...` writes the server's process id to standard output; standard input stays open for
as long as the parent lives. A death signal set by the parent itself would not do: Linux sends it when the
*thread* that started the server ends, and test runners and `asyncio.to_thread` start things from threads.
Standard library only: it is run with `-I -S` so that it starts in 20 ms.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LEFTOVERS_SECONDS = 0.5


def end_when_parent_is_gone(server: int, grace: float) -> None:
    """Blocks until the parent closes its end; then the server gets `grace` seconds to end by itself."""
    while os.read(0, 1024):
        pass
    os.kill(server, signal.SIGCONT)  # a frozen one would not hear the request
    os.kill(server, signal.SIGTERM)
    time.sleep(grace)
    os.kill(server, signal.SIGKILL)


def wait_for(server: int) -> int:
    """The server's exit status. Orphans that come to us on the way (daemons do that) are buried too."""
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == server:
            return os.waitstatus_to_exitcode(status)


def own_children() -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                # After the command's name, which is in brackets and may hold anything: state, parent.
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid():
                    found.append(int(entry.name))
    return found


def reap_what_it_started() -> None:
    """Erlang's helpers outlive it by a moment. As subreaper we inherit them, and nothing of ours may be
    left."""
    patience = time.monotonic() + LEFTOVERS_SECONDS
    with contextlib.suppress(ChildProcessError):
        while True:
            if os.waitpid(-1, os.WNOHANG) != (0, 0):
                continue
            if time.monotonic() > patience:
                for child in own_children():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
            time.sleep(0.01)


def main() -> int:
    grace, command = float(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    keeper = os.getpid()

    def die_with_keeper() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != keeper:  # it was gone before the line above
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=2,
            stderr=2,
            preexec_fn=die_with_keeper,  # noqa: PLW1509 - no thread yet
        )
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        return 127
    os.write(1, f"{server.pid}\n".encode())
    os.close(1)
    threading.Thread(target=end_when_parent_is_gone, args=(server.pid, grace), daemon=True).start()
    code = wait_for(server.pid)
    reap_what_it_started()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    status = main()
    # Not sys.exit: the thread that reads standard input would be waited for by the interpreter's last flush.
    os._exit(status)
