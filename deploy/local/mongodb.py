"""MongoDB for development and tests: its administration, and the `mongod` of a Python wheel run as a
process."""

import importlib.util
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import pymongo
from pymongo.errors import OperationFailure, PyMongoError

from deploy.local.process import (
    LOOPBACK,
    Control,
    Given,
    Process,
    Say,
    Server,
    ServersError,
    claim_port,
    wait_until,
)
from deploy.local.state import State

PORT = 27017
START_SECONDS = 60.0
UNAUTHORISED, AUTHENTICATION_FAILED, USER_EXISTS = 13, 18, 51003
OPTIONS = (
    *("--wiredTigerCacheSizeGB", "1"),
    # No compression anywhere: the wheel's build is to be bound to loopback with it off, and it would only
    # cost here.
    *("--networkMessageCompressors", "disabled"),
    *("--wiredTigerJournalCompressor", "none"),
    *("--wiredTigerCollectionBlockCompressor", "none"),
)
# Passwords are 128 random bits, so rounds of hashing add nothing to them but time per connection.
QUICK_LOGIN = ("--setParameter", "scramSHA256IterationCount=5000")
INSTALL = (
    "MongoDB: a Docker engine, or MONGODB_URL=mongodb://admin:password@host (the wheel needs Linux on x86-64)"
)


class MongoDB(Server):
    """A database server and its administrator; `url` is the administrator's."""

    def __init__(self, url: str, control: Control) -> None:
        self.url = url
        super().__init__(control)
        self._parts = urlsplit(url)
        self._client: pymongo.MongoClient[dict[str, Any]] | None = None

    def __repr__(self) -> str:  # never the URL: it holds a password
        return f"MongoDB({self.control.kind}, {self._parts.netloc.rpartition('@')[2]})"

    def _admin(self) -> "pymongo.MongoClient[dict[str, Any]]":
        if self._client is None:
            self._client = pymongo.MongoClient(
                self.url, serverSelectionTimeoutMS=2000, appname="deploy.local"
            )
        return self._client

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        wait_until(self._ready, seconds=seconds, what="MongoDB", control=self.control)

    def _ready(self) -> bool:
        try:
            self._admin().admin.command("usersInfo", 1)
        except OperationFailure as error:
            if error.code not in {UNAUTHORISED, AUTHENTICATION_FAILED}:
                return False
            if self.kind == "local" and self._make_first_user():
                return True
            if self.kind == "docker":
                return False  # the image makes the first user a moment after it opens the port
            raise ServersError(
                "MongoDB refused the administrator's credentials: they do not belong to the data it holds "
                "(FRESH=1 starts anew), or the given user may not manage users"
            ) from None
        except PyMongoError:
            return False
        return True

    def _make_first_user(self) -> bool:
        """By the localhost exception, which holds only while there is no user at all."""
        host = self._parts.netloc.rpartition("@")[2]
        with pymongo.MongoClient[dict[str, Any]](
            f"mongodb://{host}/", serverSelectionTimeoutMS=2000
        ) as client:
            try:
                client.admin.command(
                    "createUser",
                    unquote(self._parts.username or ""),
                    pwd=unquote(self._parts.password or ""),
                    roles=["root"],
                    mechanisms=["SCRAM-SHA-256"],
                )
            except OperationFailure:
                return False
        self._forget_client()  # a client whose login was refused would go on saying so
        return True

    def close(self, *, keep: bool = True) -> None:
        self._forget_client()
        self.control.release(keep=keep)

    def _forget_client(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def url_for(self, user: str, password: str, database: str) -> str:
        """The user lives in the one database it may use."""
        options = {k: v for k, v in parse_qsl(self._parts.query) if k.lower() != "authsource"}
        host = self._parts.netloc.rpartition("@")[2]
        query = urlencode(options | {"authSource": database})
        return f"{self._parts.scheme}://{quote(user, safe='')}:{password}@{host}/{database}?{query}"

    def add_user(self, database: str, user: str, password: str) -> None:
        what: dict[str, Any] = {"pwd": password, "roles": ["readWrite"], "mechanisms": ["SCRAM-SHA-256"]}
        try:
            self._admin()[database].command("createUser", user, **what)
        except OperationFailure as error:
            if error.code != USER_EXISTS:
                raise
            self._admin()[database].command("updateUser", user, **what)

    def drop_database(self, database: str) -> None:
        self._admin()[database].command("dropAllUsersFromDatabase")
        self._admin().drop_database(database)


class LocalMongoDB:
    """One `mongod` on loopback with accounts and journal on: `w: majority, j: true` is honoured by a
    standalone."""

    kind = "local"

    def __init__(self, state: State, say: Say) -> None:
        self._state = state
        self._folder = state.private_folder("mongodb")
        self._process: Process | None = None
        self.port, self._claim = claim_port(PORT, "MongoDB", say)
        self.url = (
            f"mongodb://admin:{state.secret('mongodb', 'admin')}@{LOOPBACK}:{self.port}/?authSource=admin"
        )

    @staticmethod
    def binary() -> Path | None:
        found = importlib.util.find_spec("fiftyone")
        folders = found.submodule_search_locations if found else None
        binaries = (Path(folder) / "db" / "bin" / "mongod" for folder in folders or ())
        return next((binary for binary in binaries if binary.exists()), None)

    @classmethod
    def missing(cls) -> str | None:
        return None if cls.binary() else INSTALL

    def start(self) -> None:
        data = self._folder / "data"
        data.mkdir(exist_ok=True)
        self._state.save()
        command = (
            *(str(self.binary()), "--dbpath", str(data), "--bind_ip", LOOPBACK, "--port", str(self.port)),
            *("--auth", "--nounixsocket", "--quiet", *OPTIONS, *QUICK_LOGIN),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        )
        log = self._folder / "output.log"
        self._process = Process(command, log=log, hold=[self._state.lock])

    def trouble(self) -> str | None:
        if self._process is None or self._process.running():
            return None
        return f"it ended by itself.\n{self._process.last_words()}"

    def _running(self) -> Process:
        if self._process is None:
            raise ServersError("MongoDB is not running")
        return self._process

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process = None

    def release(self, *, keep: bool) -> None:  # noqa: ARG002 - the data goes with the state's folder
        self._claim.close()

    def freeze(self) -> None:
        self._running().freeze()

    def thaw(self) -> None:
        self._running().thaw()


def start_local(state: State, say: Say) -> MongoDB:
    """Raises `ServersError`."""
    for last in (False, True):
        control = LocalMongoDB(state, say)
        server = MongoDB(control.url, control)
        try:
            server.start()
        except BaseException as error:
            control.kill()
            server.close()
            # Between finding a port free and listening on it, another may have taken it.
            if last or not isinstance(error, ServersError) or "Address already in use" not in str(error):
                raise
        else:
            return server
    raise AssertionError("unreachable")


def use_given(url: str) -> MongoDB:
    if urlsplit(url).scheme not in {"mongodb", "mongodb+srv"}:
        raise ServersError("MONGODB_URL is to be mongodb://user:password@host:port")
    server = MongoDB(url, Given("MongoDB"))
    try:
        server.wait_ready(seconds=10)
    except ServersError as error:
        server.close()
        raise ServersError(f"the given MongoDB can't be used: {error}") from None
    return server
