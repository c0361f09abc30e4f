"""RabbitMQ and MongoDB in containers through testcontainers, where a Docker engine answers and has the
images.

`python -m deploy.local.docker` ends with 0 where that is so, after fetching the images if need be.
"""

import contextlib
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from deploy.local import mongodb, rabbitmq
from deploy.local.mongodb import MongoDB
from deploy.local.process import LOOPBACK, Say, ServersError, claim_port
from deploy.local.rabbitmq import RabbitMQ
from deploy.local.state import State

RABBITMQ_IMAGE = "rabbitmq:3.13-management"
MONGODB_IMAGE = "mongo:7.0"
LABEL = "mutuals.state"
# testcontainers starts its reaper at the first container, and two at once would start two.
_one_at_a_time = threading.Lock()
Server = TypeVar("Server", RabbitMQ, MongoDB)


def client() -> Any | None:
    """The engine's client (docker-py, which has no types), or None where no engine answers."""
    if not _may_answer():
        return None
    logging.getLogger("testcontainers").setLevel(logging.WARNING)
    try:
        from testcontainers.core.docker_client import DockerClient  # noqa: PLC0415 - 0.4 s to import

        engine: Any = DockerClient(timeout=60).client
        engine.ping()
    except Exception:  # anything at all that goes wrong here means: not by this way
        return None
    return engine


def _may_answer() -> bool:
    """Whether anybody listens where docker-py would look: it costs 0.4 s to import, and leaves sockets
    open."""
    host = urlsplit(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"))
    try:
        if host.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(2)
                probe.connect(host.path)
        elif host.hostname:
            socket.create_connection((host.hostname, host.port or 2375), timeout=2).close()
    except OSError:
        return False
    return True


def have_image(engine: Any, image: str, say: Say) -> None:
    """Raises `ServersError` if it is neither here nor to be had."""
    try:
        engine.images.get(image)
    except Exception:
        say(f"fetching the image {image}")
        try:
            engine.images.pull(image)
        except Exception as error:
            raise ServersError(f"Docker answers but can't fetch {image}: {_shortly(error)}") from None


def _shortly(error: Exception) -> str:
    """What the engine said: docker-py puts the request before it, and keeps it in `explanation`."""
    return str(getattr(error, "explanation", None) or error).strip().partition("\n")[0][:240]


class Container:
    """One container of ours, with its data in a named volume, published on loopback."""

    kind = "docker"

    def __init__(
        self,
        state: State,
        name: str,
        image: str,
        *,
        ports: Mapping[int, int],
        claims: Sequence[socket.socket],
        data: str,
        environment: Mapping[str, str],
        command: Sequence[str] = (),
    ) -> None:
        self._state_id = state.secret("docker", "id")[:12]
        self._volume = f"mutuals-{self._state_id}-{name}"
        self._name = name
        self._image = image
        self._ports = ports
        self._claims = claims
        self._data = data
        self._environment = environment
        self._command = command
        self._container: Any = None
        self._engine: Any = None
        state.save()

    def start(self) -> None:
        if self._container is None:
            self._create()
        else:
            self._container.start()

    def _create(self) -> None:
        from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - as above

        container = (
            DockerContainer(self._image)
            .with_envs(**self._environment)
            .with_volume_mapping(self._volume, self._data, "rw")
            # The hostname is part of the broker's node name, and so of its data.
            .with_kwargs(hostname=f"mutuals-{self._name}", labels={LABEL: f"{self._state_id}-{self._name}"})
        )
        for inside, outside in self._ports.items():
            # docker-py takes an address with the port; the type testcontainers gives does not know it.
            container.ports[str(inside)] = (LOOPBACK, outside)  # type: ignore[assignment]
        if self._command:
            container.with_command(list(self._command))
        self._engine = container.get_docker_client().client
        self._remove_leftovers()
        try:
            with _one_at_a_time:
                container.start()
        except Exception as error:
            with contextlib.suppress(Exception):
                container.stop(delete_volume=False)
            raise ServersError(f"Docker could not start {self._image}: {_shortly(error)}") from None
        self._container = container.get_wrapped_container()

    def _remove_leftovers(self) -> None:
        """Of a run that was killed where testcontainers' reaper is off: two servers must not share one
        volume."""
        label = f"{LABEL}={self._state_id}-{self._name}"
        for old in self._engine.containers.list(all=True, filters={"label": label}):
            old.remove(force=True)

    def stop(self) -> None:
        if self._container is not None:
            self.thaw()
            self._container.stop(timeout=15)

    def kill(self) -> None:
        if self._container is not None:
            with contextlib.suppress(Exception):  # the engine says 409 of one that is not running
                self._container.kill()
            self._container.wait()

    def freeze(self) -> None:
        self._container.pause()

    def thaw(self) -> None:
        with contextlib.suppress(Exception):  # the engine says 409 of one that is not paused
            self._container.unpause()

    def trouble(self) -> str | None:
        if self._container is None:
            return None
        self._container.reload()
        if self._container.status not in {"exited", "dead"}:
            return None
        words = self._container.logs(tail=8).decode(errors="replace").strip()
        return f"the container ended by itself.\n{words}"

    def release(self, *, keep: bool) -> None:
        for claim in self._claims:
            claim.close()
        if self._engine is None:
            return
        if self._container is not None:
            with contextlib.suppress(Exception):  # testcontainers' reaper may have been first
                self._container.remove(force=True, v=True)
        if not keep:
            with contextlib.suppress(Exception):
                self._engine.volumes.get(self._volume).remove(force=True)
        self._engine.close()


def start_rabbitmq(engine: Any, state: State, say: Say) -> RabbitMQ:
    """Raises `ServersError`."""
    have_image(engine, RABBITMQ_IMAGE, say)
    password = state.secret("docker", "rabbitmq")

    def made() -> RabbitMQ:
        amqp, amqp_claim = claim_port(rabbitmq.AMQP_PORT, "RabbitMQ", say)
        management, management_claim = claim_port(rabbitmq.MANAGEMENT_PORT, "RabbitMQ", say)
        control = Container(
            state,
            "rabbitmq",
            RABBITMQ_IMAGE,
            ports={5672: amqp, 15672: management},
            claims=(amqp_claim, management_claim),
            data="/var/lib/rabbitmq",
            environment={
                "RABBITMQ_DEFAULT_USER": "admin",
                "RABBITMQ_DEFAULT_PASS": password,
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": rabbitmq.ERLANG_ARGUMENTS,
            },
        )
        url = f"amqp://admin:{password}@{LOOPBACK}:{amqp}"
        return RabbitMQ(url, f"http://{LOOPBACK}:{management}", control)

    return _started(made)


def start_mongodb(engine: Any, state: State, say: Say) -> MongoDB:
    """Raises `ServersError`."""
    have_image(engine, MONGODB_IMAGE, say)
    password = state.secret("docker", "mongodb")

    def made() -> MongoDB:
        port, claim = claim_port(mongodb.PORT, "MongoDB", say)
        control = Container(
            state,
            "mongodb",
            MONGODB_IMAGE,
            ports={27017: port},
            claims=(claim,),
            data="/data/db",
            environment={"MONGO_INITDB_ROOT_USERNAME": "admin", "MONGO_INITDB_ROOT_PASSWORD": password},
            command=("mongod", *mongodb.OPTIONS, *mongodb.QUICK_LOGIN),
        )
        return MongoDB(f"mongodb://admin:{password}@{LOOPBACK}:{port}/?authSource=admin", control)

    return _started(made)


def _started(made: Callable[[], Server]) -> Server:
    for last in (False, True):
        server = made()
        try:
            server.start()
        except BaseException as error:
            server.close()
            # Between finding a port free and listening on it, another may have taken it.
            if last or not isinstance(error, ServersError) or "address already in use" not in str(error):
                raise
        else:
            return server
    raise AssertionError("unreachable")


def main() -> int:
    engine = client()
    if engine is None:
        return 1
    try:
        from testcontainers.core.config import testcontainers_config  # noqa: PLC0415 - 0.4 s to import

        reaper = [] if testcontainers_config.ryuk_disabled else [testcontainers_config.ryuk_image]
        for image in (RABBITMQ_IMAGE, MONGODB_IMAGE, *reaper):
            have_image(engine, image, print)
    except ServersError as error:
        print(error)
        return 1
    finally:
        engine.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
