"""The folder where the local servers keep data and credentials, so that the next run goes on from this
one."""

import fcntl
import json
import os
import secrets
import shutil
import threading
import time
from pathlib import Path

from deploy.local.process import ServersError

LOCK_SECONDS = 20.0


class State:
    """A folder locked for one owner. Credentials are made at first need and kept in one file only we can
    read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = self.folder / "credentials.json"
        self._one_at_a_time = threading.RLock()  # the two servers are started side by side
        self.lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        self._take_lock()
        self._kept: dict[str, str] = json.loads(self._file.read_text()) if self._file.exists() else {}

    def _take_lock(self) -> None:
        # The keepers of a run that was killed hold the lock until its servers are gone: wait for that, not
        # for ever.
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(self.lock)
                    raise ServersError(
                        f"{self.folder} is in use by another run; stop that one first"
                    ) from None
                time.sleep(0.1)
            else:
                return

    def secret(self, *path: str) -> str:
        """The secret under this path, made now if there is none (128 bits, hexadecimal: safe in any URL or
        file)."""
        return self.remember(secrets.token_hex(16), *path)

    def remember(self, value: str, *path: str) -> str:
        """What is kept under this path; `value` from now on if there is nothing yet."""
        with self._one_at_a_time:
            return self._kept.setdefault("/".join(path), value)

    def get(self, *path: str) -> str | None:
        return self._kept.get("/".join(path))

    def forget(self, *path: str) -> None:
        prefix = "/".join(path) + "/"
        with self._one_at_a_time:
            self._kept = {name: value for name, value in self._kept.items() if not name.startswith(prefix)}

    def save(self) -> None:
        """Before a secret is used: else a crash leaves a server with a password nobody knows."""
        with self._one_at_a_time:
            draft = self._file.with_suffix(".new")
            draft.unlink(missing_ok=True)
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump(self._kept, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._file)

    def private_folder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True, mode=0o700)
        return folder

    def close(self, *, keep: bool) -> None:
        """With `keep` false the servers' data and credentials go; whatever else is in the folder is not
        ours."""
        if not keep:
            for name in ("rabbitmq", "mongodb"):
                shutil.rmtree(self.folder / name, ignore_errors=True)
            self._file.unlink(missing_ok=True)
        os.close(self.lock)
