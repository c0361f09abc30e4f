"""RabbitMQ for development and tests: its administration, and Debian's package run as an ordinary process."""

import shutil
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import httpx

from deploy.local.process import (
    LOOPBACK,
    Control,
    Given,
    Process,
    Say,
    Server,
    ServersError,
    answers,
    claim_port,
    wait_until,
)
from deploy.local.state import State

# The package's own script: the one on PATH changes user to `rabbitmq` when root, and refuses anybody else.
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
AMQP_PORT, MANAGEMENT_PORT = 5672, 15672
START_SECONDS = 60.0
REFUSED_SECONDS = 20.0
KNOWN_SECONDS = 10.0
RECOVERY_SECONDS = 3.0
# How old a quorum queue's counts may be. The default, 5 s, would make every "all queues are empty" take 5 s.
TICK_SECONDS = 0.3
DEFAULT_TICK_SECONDS = 5.0
ERLANG_ARGUMENTS = (
    # Two schedulers that sleep when idle: the broker shares its cores with everything else under test.
    "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none "
    f"-rabbit quorum_tick_interval {TICK_SECONDS * 1000:.0f} "
    # Queues are closed within 0.1 s of a stop, but 3.10 then waits 5 s for nothing.
    "-shutdown_time 2000"
)
INSTALL = (
    "RabbitMQ: `apt-get install rabbitmq-server`, a Docker engine, or RABBITMQ_URL=amqp://admin:password@host"
)


class RabbitMQ(Server):
    """A broker and its administrator. `url` has no virtual host; `management_url` has no credentials."""

    def __init__(self, url: str, management_url: str, control: Control, tick: float = TICK_SECONDS) -> None:
        parts = urlsplit(url)
        self.url = f"{parts.scheme}://{parts.netloc}"
        self.management_url = management_url.rstrip("/")
        super().__init__(control)
        self.tick = tick
        self._parts = parts
        self._refused_since = 0.0
        self._ready_at = 0.0
        self.user = unquote(parts.username or "guest")
        self.password = unquote(parts.password or "guest")
        self._http = httpx.Client(
            base_url=f"{self.management_url}/api/",
            auth=(self.user, self.password),
            timeout=30,
            trust_env=False,
        )

    def __repr__(self) -> str:  # never the URL: it holds a password
        return f"RabbitMQ({self.control.kind}, {self._parts.hostname}:{self._parts.port or AMQP_PORT})"

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        wait_until(self._ready, seconds=seconds, what="RabbitMQ", control=self.control)
        self._ready_at = time.monotonic()

    def _ready(self) -> bool:
        try:
            answer = self._http.get("health/checks/virtual-hosts", timeout=5)
        except httpx.HTTPError:
            return False
        if answer.status_code in {401, 403}:
            # Or this is somebody else's broker, and ours is about to fail for want of its port.
            self._refused_since = self._refused_since or time.monotonic()
            if self.kind == "local" and time.monotonic() - self._refused_since < REFUSED_SECONDS:
                return False
            raise ServersError(
                "RabbitMQ refused the administrator's credentials: they do not belong to the data it holds "
                "(FRESH=1 starts anew), or the given user has no `administrator` tag"
            )
        # The management port opens before the AMQP one.
        return answer.status_code == 200 and (self.kind == "given" or answers(self._parts.port or AMQP_PORT))

    def close(self, *, keep: bool = True) -> None:
        self._http.close()
        self.control.release(keep=keep)

    def url_for(self, user: str, password: str, vhost: str) -> str:
        host = self._parts.netloc.rpartition("@")[2]
        return f"{self._parts.scheme}://{quote(user, safe='')}:{password}@{host}/{quote(vhost, safe='')}"

    def admin_url(self, vhost: str) -> str:
        return self.url_for(self.user, quote(self.password, safe=""), vhost)

    def add_vhost(self, vhost: str) -> None:
        self._call("PUT", "vhosts", vhost)
        self.permit(vhost, self.user, configure=".*", write=".*", read=".*")

    def add_user(self, user: str, password: str) -> None:
        self._call("PUT", "users", user, json={"password": password, "tags": ""})

    def permit(self, vhost: str, user: str, *, configure: str, write: str, read: str) -> None:
        self._call(
            "PUT", "permissions", vhost, user, json={"configure": configure, "write": write, "read": read}
        )

    def drop_vhost(self, vhost: str) -> None:
        self._call("DELETE", "vhosts", vhost, missing_is_fine=True)

    def drop_user(self, user: str) -> None:
        self._call("DELETE", "users", user, missing_is_fine=True)

    def depths(self, vhost: str) -> dict[str, int | None]:
        """Messages ready and unacknowledged in each queue, at most one tick old; None where the queue is
        down."""
        # Without stats the totals come from the queues' own counters, which each quorum queue renews once a
        # tick; the stats database copies those counters only every 5 s.
        found = self._call(
            "GET", "queues", vhost, params={"disable_stats": "true", "enable_queue_totals": "true"}
        )
        return {queue["name"]: queue.get("messages") for queue in found}

    def settled_depths(self, vhost: str) -> dict[str, int]:
        """As `depths`, but nothing is called empty on one look.

        A message handed to a consumer since the last tick is in no count yet. So where all is empty, a second
        look is taken when every count has been renewed, and the larger counts are returned.
        """
        first = self._known_depths(vhost)
        if any(first.values()):
            return first
        # After a start, a queue counts nothing until it has read its log and chosen its leader.
        time.sleep(max(self.tick * 1.2, self._ready_at + RECOVERY_SECONDS - time.monotonic()))
        return self._known_depths(vhost)

    def _known_depths(self, vhost: str) -> dict[str, int]:
        # Just after a start, queues are still choosing their leaders. A queue that stays down is not an empty
        # one.
        deadline = time.monotonic() + KNOWN_SECONDS
        while True:
            found = self.depths(vhost)
            down = sorted(name for name, depth in found.items() if depth is None)
            if not down:
                return {name: depth for name, depth in found.items() if depth is not None}
            if time.monotonic() > deadline:
                raise ServersError(f"RabbitMQ: queues that are down: {', '.join(down)}")
            time.sleep(0.1)

    def _call(self, method: str, *path: str, missing_is_fine: bool = False, **more: Any) -> Any:
        try:
            answer = self._http.request(method, "/".join(quote(part, safe="") for part in path), **more)
        except httpx.HTTPError as error:
            raise ServersError(f"RabbitMQ: {method} {path[0]}: {error or type(error).__name__}") from error
        if answer.status_code == 404 and missing_is_fine:
            return None
        if answer.is_error:
            raise ServersError(f"RabbitMQ: {method} {path[0]}: {answer.status_code} {answer.text[:200]}")
        return answer.json() if answer.content else None


class LocalRabbitMQ:
    """The package's server with node name, ports, cookie, folders and epmd of its own; on loopback only."""

    kind = "local"

    def __init__(self, state: State, say: Say) -> None:
        self._state = state
        self._folder = state.private_folder("rabbitmq")
        # Kept, not derived from the path: the node's name is part of its data.
        self._node = state.remember(
            f"mutuals-{state.secret('rabbitmq', 'cookie')[:8]}@localhost", "rabbitmq", "node"
        )
        self._processes: list[Process] = []
        self.amqp, amqp_claim = claim_port(AMQP_PORT, "RabbitMQ", say)
        self.management, management_claim = claim_port(MANAGEMENT_PORT, "RabbitMQ", say)
        self._distribution, distribution_claim = claim_port()
        self._epmd, epmd_claim = claim_port()
        self._claims = (amqp_claim, management_claim, distribution_claim, epmd_claim)
        self.url = f"amqp://admin:{state.secret('rabbitmq', 'admin')}@{LOOPBACK}:{self.amqp}"

    @staticmethod
    def missing() -> str | None:
        return None if SERVER.exists() and shutil.which("epmd") else INSTALL

    def start(self) -> None:
        self._write_files()
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            "HOME": str(self._folder),
            "ERL_EPMD_PORT": str(self._epmd),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            # Makes the script become the Erlang VM instead of waiting for it: signals then reach the broker
            # itself.
            "RUNNING_UNDER_SYSTEMD": "true",
            "RABBITMQ_CONF_ENV_FILE": str(self._folder / "none"),
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self._folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_PID_FILE": str(self._folder / "pid"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self._folder / "config"),
            "RABBITMQ_PLUGINS_EXPAND_DIR": str(self._folder / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                f"{ERLANG_ARGUMENTS} +B i -kernel inet_dist_use_interface {{127,0,0,1}}"
            ),
        }
        log = self._folder / "output.log"
        hold = [self._state.lock]
        # Ours, in the foreground: an epmd that Erlang starts by itself stays behind for ever.
        epmd = Process(
            ["epmd", "-port", str(self._epmd), "-address", LOOPBACK],
            log=log,
            env=environment,
            hold=hold,
            grace=1,
        )
        self._processes = [epmd]
        wait_until(lambda: answers(self._epmd), seconds=10, what="epmd", control=self)
        self._processes.append(Process([str(SERVER)], log=log, env=environment, hold=hold))

    def _write_files(self) -> None:
        cookie = self._folder / ".erlang.cookie"
        if not cookie.exists():  # Erlang wants it unwritable by others
            cookie.touch(mode=0o600)
            cookie.write_text(self._state.secret("rabbitmq", "cookie"))
        (self._folder / "enabled_plugins").write_text("[rabbitmq_management].\n")
        configuration = self._folder / "rabbitmq.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(
            f"listeners.tcp.1 = {LOOPBACK}:{self.amqp}\n"
            f"management.tcp.ip = {LOOPBACK}\n"
            f"management.tcp.port = {self.management}\n"
            "default_user = admin\n"  # instead of guest, when there is no data yet
            f"default_pass = {self._state.secret('rabbitmq', 'admin')}\n"
            "log.connection.level = warning\n"
            "log.console = false\n"
            "raft.wal_max_size_bytes = 64000000\n"  # of 512 MB: the log is kept in memory too
        )
        self._state.save()

    def trouble(self) -> str | None:
        ended = next((process for process in self._processes if not process.running()), None)
        return f"it ended by itself.\n{ended.last_words()}" if ended else None

    def stop(self) -> None:
        while self._processes:  # the broker before the epmd it is registered with
            self._processes.pop().stop()

    def kill(self) -> None:
        while self._processes:
            self._processes.pop().kill()

    def release(self, *, keep: bool) -> None:  # noqa: ARG002 - the data goes with the state's folder
        for claim in self._claims:
            claim.close()

    def freeze(self) -> None:
        self._processes[-1].freeze()

    def thaw(self) -> None:
        self._processes[-1].thaw()


def start_local(state: State, say: Say) -> RabbitMQ:
    """Raises `ServersError`."""
    for last in (False, True):
        control = LocalRabbitMQ(state, say)
        server = RabbitMQ(control.url, f"http://{LOOPBACK}:{control.management}", control)
        try:
            server.start()
        except BaseException as error:
            control.kill()
            server.close()
            # Between finding a port free and listening on it, another may have taken it.
            if last or not isinstance(error, ServersError) or "eaddrinuse" not in str(error):
                raise
        else:
            return server
    raise AssertionError("unreachable")


def use_given(url: str, management_url: str | None) -> RabbitMQ:
    parts = urlsplit(url)
    if parts.scheme not in {"amqp", "amqps"} or not parts.hostname:
        raise ServersError("RABBITMQ_URL is to be amqp://user:password@host:port")
    management_url = management_url or f"http://{parts.hostname}:{MANAGEMENT_PORT}"
    server = RabbitMQ(url, management_url, Given("RabbitMQ"), tick=DEFAULT_TICK_SECONDS)
    try:
        server.wait_ready(seconds=10)
    except ServersError as error:
        server.close()
        raise ServersError(f"the given RabbitMQ can't be used over {management_url}: {error}") from None
    return server
