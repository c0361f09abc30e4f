"""What the demo keeps in its folder so that the next run goes on from this one."""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from deploy.local import docker
from deploy.local.process import ServersError
from deploy.local.state import State


class DemoError(Exception):
    """The demo cannot go on. The message says what to do about it."""


class Kept(BaseModel):
    """`run` is in the Message-ID of every message, by its hash. `offset` is from the machine's clock to the
    programme's, `worked` the time spent on messages so far, in seconds. `servers` says where the data is."""

    model_config = ConfigDict(frozen=True)

    run: str
    tenant: str
    servers: str
    begun: datetime
    offset: float
    operator_token: str
    web_form_key: str
    reply_key: str
    worked: float = 0.0


class Folder:
    """The demo's folder, ours alone until `close`. Raises `DemoError` where another demo has it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.servers, self.mail, self.logs = path / "servers", path / "mail", path / "logs"
        self._kept = path / "demo.json"
        self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 20, 0).decode().strip()
            os.close(self._lock)
            raise DemoError(
                f"The demo is running already (process {holder}). Stop that one first (Ctrl-C where it is), "
                "or give this one a folder of its own: DEMO_STATE=.local/another"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode(), 0)

    def close(self) -> None:
        os.close(self._lock)

    def read(self) -> Kept | None:
        try:
            return Kept.model_validate_json(self._kept.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise DemoError(
                f"{self._kept} cannot be read ({error.error_count()} errors in it): FRESH=1 starts anew"
            ) from None

    def write(self, kept: Kept) -> None:
        write_private(self._kept, kept.model_dump_json(indent=1))

    def discard(self) -> None:
        """Everything goes, except on servers given by URL, which only they themselves can forget."""
        _discard_volumes(self.servers / "credentials.json")
        if self.servers.exists():
            # Waits until the servers of a run that was killed are gone.
            State(self.servers).close(keep=False)
            shutil.rmtree(self.servers)
        for folder in (self.mail, self.logs):
            shutil.rmtree(folder, ignore_errors=True)
        self._kept.unlink(missing_ok=True)


def new_token() -> str:
    return secrets.token_urlsafe(24)


def write_private(file: Path, text: str) -> None:
    """All of it or nothing, and readable by us alone from the first moment."""
    draft = file.with_name(f"{file.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    draft.replace(file)


def _discard_volumes(credentials: Path) -> None:
    """The data of servers in Docker is in volumes named after the state's id (deploy/local/docker.py)."""
    try:
        state_id = json.loads(credentials.read_text())["docker/id"][:12]
    except (OSError, ValueError, KeyError):
        return
    engine = docker.client()
    if engine is None:
        return
    with contextlib.closing(engine):
        for volume in engine.volumes.list():
            if volume.name.startswith(f"mutuals-{state_id}-"):
                volume.remove(force=True)


@contextlib.contextmanager
def folder(path: Path, *, fresh: bool) -> Iterator[tuple[Folder, Kept | None]]:
    """The folder and what the last run left. With `fresh` that is gone, but still told, for the servers that
    have to forget it themselves."""
    held = Folder(path)
    try:
        if not fresh:
            yield held, held.read()
            return
        try:
            last = held.read()
        except DemoError:
            last = None
        try:
            held.discard()
        except OSError as error:
            raise DemoError(f"{path} cannot be discarded: {error}") from None
        yield held, last
    finally:
        held.close()


__all__ = ["DemoError", "Folder", "Kept", "ServersError", "folder", "new_token", "write_private"]
