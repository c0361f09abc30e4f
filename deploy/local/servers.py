"""The real RabbitMQ and MongoDB that the demo, the tests and the benchmark run on.

Each is had in the first way that works: given by URL, in Docker, as a local process. A tenant is one virtual
host and one database per service, with credentials that reach nothing else.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from deploy.local import docker, mongodb, rabbitmq
from deploy.local.mongodb import MongoDB
from deploy.local.process import Say, ServersError, free_port, quiet
from deploy.local.rabbitmq import RabbitMQ
from deploy.local.state import State

__all__ = ["MongoDB", "RabbitMQ", "Servers", "ServersError", "Tenant", "free_port", "quiet", "start"]

# MongoDB refuses longer database names; these characters are good in its names, in virtual hosts and in URLs.
DATABASE_NAME_BYTES = 63
NAME = re.compile(r"[a-z0-9][a-z0-9_-]*", re.ASCII)

Server = TypeVar("Server", RabbitMQ, MongoDB)


class Tenant:
    """One virtual host and a database per service; each service has accounts of its own on both."""

    def __init__(self, name: str, services: Sequence[str], servers: "Servers") -> None:
        self.name = name
        self.services = tuple(services)
        self._rabbitmq = servers.rabbitmq
        self._mongodb = servers.mongodb
        self._state = servers.state
        self._outsiders: set[str] = set()

    def database(self, service: str) -> str:
        return f"{self.name}-{service}"

    def broker_user(self, service: str) -> str:
        """The broker's accounts are not per virtual host, so the tenant is in the name."""
        return f"{self.name}.{service}"

    def _secret(self, service: str, server: str) -> str:
        if service not in self.services:
            raise KeyError(f"{service} is no service of {self.name}: {', '.join(self.services)}")
        return self._state.secret("tenant", self.name, service, server)

    def amqp_url(self, service: str) -> str:
        return self._rabbitmq.url_for(self.broker_user(service), self._secret(service, "rabbitmq"), self.name)

    def mongodb_url(self, service: str) -> str:
        return self._mongodb.url_for(service, self._secret(service, "mongodb"), self.database(service))

    @property
    def admin_amqp_url(self) -> str:
        return self._rabbitmq.admin_url(self.name)

    @property
    def admin_mongodb_url(self) -> str:
        return self._mongodb.url

    def create(self) -> None:
        """What is there already stays; accounts get the passwords kept for them."""
        for service in self.services:
            self._secret(service, "rabbitmq")
            self._secret(service, "mongodb")
        self._state.save()
        _all_at_once([self._create_on_broker, self._create_on_database])

    def _create_on_broker(self) -> None:
        self._rabbitmq.add_vhost(self.name)
        for service in self.services:
            user = self.broker_user(service)
            self._rabbitmq.add_user(user, self._secret(service, "rabbitmq"))
            # Topology is an administrator's: a service writes to and reads from what bears its name, and
            # looks up anything (a passive declaration needs no permission) but declares nothing.
            own = rf"^{re.escape(service)}(\..*)?$"
            self._rabbitmq.permit(self.name, user, configure="^$", write=own, read=own)

    def _create_on_database(self) -> None:
        for service in self.services:
            # readWrite on its one database: that includes making indexes and collections.
            self._mongodb.add_user(self.database(service), service, self._secret(service, "mongodb"))

    def queue_depths(self) -> dict[str, int]:
        """Messages in each queue, waiting or handed out and not yet acknowledged.

        A queue that has any says so at once. "All empty" is said only when a second look, after every quorum
        queue has renewed its counts (0.3 s; 5 s on a broker given by URL), finds the same. Blocks for that
        long. Partners' queues are theirs to empty, and are left out.
        """
        depths = self._rabbitmq.settled_depths(self.name)
        return {name: depth for name, depth in depths.items() if not name.startswith("partner.")}

    def secret(self, *path: str) -> str:
        """A secret of this tenant, the same at every start."""
        made = self._state.secret("tenant", self.name, *path)
        self._state.save()
        return made

    def partner_url(self, slug: str) -> str:
        """The AMQP URL of a partner's own account, made now: it reads that partner's queue, and nothing else
        is it allowed."""
        user, password = f"{self.name}.partner.{slug}", self.secret("partner", slug, "rabbitmq")
        self._rabbitmq.add_user(user, password)
        own = rf"^partner\.{re.escape(slug)}\.cases$"
        self._rabbitmq.permit(self.name, user, configure="^$", write="^$", read=own)
        self._outsiders.add(user)
        return self._rabbitmq.url_for(user, password, self.name)

    def drop(self) -> None:
        """Virtual host, databases, accounts and kept passwords are gone; dropping twice is harmless."""
        self._rabbitmq.drop_vhost(self.name)
        for user in self._outsiders:
            self._rabbitmq.drop_user(user)
        for service in self.services:
            self._rabbitmq.drop_user(self.broker_user(service))
            self._mongodb.drop_database(self.database(service))
        self._state.forget("tenant", self.name)
        self._state.save()


class Servers:
    """A broker and a database server; a context manager that stops those we started."""

    def __init__(self, rabbitmq: RabbitMQ, mongodb: MongoDB, state: State, *, keep: bool) -> None:
        self.rabbitmq = rabbitmq
        self.mongodb = mongodb
        self.state = state
        self._keep = keep
        self._stopped = False

    def tenant(self, name: str, services: Sequence[str]) -> Tenant:
        """Make, or take up again, the tenant of this name. Raises `ValueError` for a name that is not
        usable."""
        for word in (name, *services):
            if not NAME.fullmatch(word):
                raise ValueError(
                    f"{word!r}: small letters, digits, `-` and `_` only, a letter or digit first"
                )
        tenant = Tenant(name, services, self)
        for database in map(tenant.database, services):
            if len(database) > DATABASE_NAME_BYTES:
                raise ValueError(f"{database!r} is longer than MongoDB allows a database name to be")
        tenant.create()
        return tenant

    def stop(self) -> None:
        """Nothing of ours is left running. With `keep` the data stays for the next start."""
        if self._stopped:
            return
        self._stopped = True
        servers: tuple[RabbitMQ | MongoDB, ...] = (self.rabbitmq, self.mongodb)
        try:
            _all_at_once([partial(_stop, server, keep=self._keep) for server in servers])
        finally:
            self.state.close(keep=self._keep)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def start(
    state: Path, *, keep: bool, say: Say = quiet, environment: Mapping[str, str] = os.environ
) -> Servers:
    """Both servers, ready. Data and generated credentials are kept in the folder `state`.

    `RABBITMQ_URL` and `MONGODB_URL` (an administrator's, each) win; `RABBITMQ_MANAGEMENT_URL` is port 15672
    of the same host unless said otherwise. Raises `ServersError`, which says what to install where none can
    be had.
    """
    kept = State(state)
    try:
        broker, database = _ways(kept, say, environment)
        started = _all_at_once([broker, database])
        kept.save()
    except BaseException:
        kept.close(keep=True)
        raise
    return Servers(started[0], started[1], kept, keep=keep)


def _ways(
    state: State, say: Say, environment: Mapping[str, str]
) -> tuple[Callable[[], RabbitMQ], Callable[[], MongoDB]]:
    """How each of the two is to be had, decided before anything is started."""
    amqp, mongo = environment.get("RABBITMQ_URL"), environment.get("MONGODB_URL")
    engine = None if amqp and mongo else docker.client()
    missing = [
        what
        for given, what in (
            (amqp, rabbitmq.LocalRabbitMQ.missing()),
            (mongo, mongodb.LocalMongoDB.missing()),
        )
        if what is not None and not given
    ]
    if missing and engine is None:
        raise ServersError("a server is missing; install one of these for each:\n  " + "\n  ".join(missing))

    def broker() -> RabbitMQ:
        if amqp:
            say("RabbitMQ: as given")
            return rabbitmq.use_given(amqp, environment.get("RABBITMQ_MANAGEMENT_URL"))
        return _in_docker_or_local(
            "RabbitMQ",
            partial(docker.start_rabbitmq, engine, state, say) if engine else None,
            partial(rabbitmq.start_local, state, say),
            rabbitmq.LocalRabbitMQ.missing,
            state=state,
            say=say,
        )

    def database() -> MongoDB:
        if mongo:
            say("MongoDB: as given")
            return mongodb.use_given(mongo)
        return _in_docker_or_local(
            "MongoDB",
            partial(docker.start_mongodb, engine, state, say) if engine else None,
            partial(mongodb.start_local, state, say),
            mongodb.LocalMongoDB.missing,
            state=state,
            say=say,
        )

    return broker, database


def _in_docker_or_local(
    what: str,
    in_docker: Callable[[], Server] | None,
    local: Callable[[], Server],
    missing: Callable[[], str | None],
    *,
    state: State,
    say: Say,
) -> Server:
    # A run goes on where its data is, even if an engine has come meanwhile.
    if in_docker is not None and (state.get("way", what) != "local" or missing()):
        try:
            server = in_docker()
        except ServersError as error:
            say(f"{what}: {error}; a local process instead")
        else:
            say(f"{what}: in Docker")
            state.remember("docker", "way", what)
            return server
    install = missing()
    if install is not None:
        raise ServersError(f"no way to run a server; install one of these:\n  {install}")
    server = local()
    say(f"{what}: a local process")
    state.remember("local", "way", what)
    return server


def _stop(server: RabbitMQ | MongoDB, *, keep: bool) -> None:
    if server.kind != "given":
        server.stop()
    server.close(keep=keep)


def _all_at_once(actions: Iterable[Callable[[], Any]]) -> list[Any]:
    """Every action runs to its end, side by side; what was started is stopped again where another failed."""
    with ThreadPoolExecutor() as pool:
        futures = [pool.submit(action) for action in actions]
    errors = [error for future in futures if (error := future.exception()) is not None]
    if not errors:
        return [future.result() for future in futures]
    for future in futures:
        if future.exception() is None and future.result() is not None:
            _stop(future.result(), keep=True)
    raise errors[0]
