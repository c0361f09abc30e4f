"""How the local servers are chosen, kept and named; nothing here starts a broker or a database."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.local import docker, mongodb, rabbitmq, servers, state
from deploy.local.mongodb import MongoDB
from deploy.local.process import Given, Process, ServersError, free_port
from deploy.local.rabbitmq import RabbitMQ
from deploy.local.state import State

ROOT = Path(__file__).resolve().parents[2]
BROKER = RabbitMQ(
    "amqp://ad%40min:p%2Fw@broker.example:5673", "http://broker.example:15672", Given("RabbitMQ")
)
DATABASE = MongoDB(
    "mongodb://admin:pw@one.example:1,two.example:2/?replicaSet=rs0&authSource=admin", Given("MongoDB")
)


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def gone(pid: int, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while psutil.pid_exists(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def servers_on(folder: Path) -> servers.Servers:
    return servers.Servers(BROKER, DATABASE, State(folder), keep=True)


def test_a_free_preferred_port_is_used() -> None:
    with taken_port() as port:
        pass
    assert free_port(port) == port


def test_a_taken_preferred_port_is_left_alone() -> None:
    with taken_port() as port:
        assert free_port(port) != port


def test_secrets_are_kept_for_the_next_run_in_a_file_only_we_can_read(tmp_path: Path) -> None:
    first = State(tmp_path / "state")
    secret = first.secret("tenant", "demo", "intake", "rabbitmq")
    first.save()
    first.close(keep=True)
    file = tmp_path / "state" / "credentials.json"
    assert file.stat().st_mode & 0o777 == 0o600
    again = State(tmp_path / "state")
    assert again.secret("tenant", "demo", "intake", "rabbitmq") == secret
    again.close(keep=True)


def test_what_is_not_to_be_kept_goes_and_other_peoples_files_stay(tmp_path: Path) -> None:
    (tmp_path / "mailbox").touch()
    ours = State(tmp_path)
    ours.secret("rabbitmq", "admin")
    ours.save()
    (ours.private_folder("mongodb") / "data").touch()
    ours.close(keep=False)
    assert {found.name for found in tmp_path.iterdir()} == {"mailbox", "lock"}


def test_two_runs_can_not_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "LOCK_SECONDS", 0.0)
    first = State(tmp_path)
    with pytest.raises(ServersError, match="in use by another run"):
        State(tmp_path)
    first.close(keep=True)
    State(tmp_path).close(keep=True)


def test_nothing_to_be_had_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker, "client", lambda: None)
    monkeypatch.setattr(rabbitmq, "SERVER", tmp_path / "none")
    monkeypatch.setattr(mongodb.LocalMongoDB, "binary", staticmethod(lambda: None))
    with pytest.raises(ServersError, match=r"(?s)apt-get install rabbitmq-server.*MONGODB_URL"):
        servers.start(tmp_path / "state", keep=False, environment={})


def test_an_engine_that_has_no_images_is_said_and_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Images:
        def get(self, name: str) -> None:
            raise LookupError(name)

        def pull(self, name: str) -> None:
            raise OSError("no route to the registry\nand forty more lines")

    class Engine:
        images = Images()

    monkeypatch.setattr(docker, "client", Engine)
    monkeypatch.setattr(rabbitmq.LocalRabbitMQ, "missing", staticmethod(lambda: None))
    monkeypatch.setattr(mongodb.LocalMongoDB, "missing", staticmethod(lambda: None))
    monkeypatch.setattr(rabbitmq, "start_local", lambda *_: BROKER)
    monkeypatch.setattr(mongodb, "start_local", lambda *_: DATABASE)
    said: list[str] = []
    with servers.start(tmp_path, keep=False, say=said.append, environment={}) as running:
        assert (running.rabbitmq, running.mongodb) == (BROKER, DATABASE)
    assert (
        "RabbitMQ: Docker answers but can't fetch rabbitmq:3.13-management: no route to the registry; "
        "a local process instead" in said
    )


def test_a_run_goes_on_where_its_data_is_even_if_an_engine_has_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rabbitmq.LocalRabbitMQ, "missing", staticmethod(lambda: None))
    monkeypatch.setattr(mongodb.LocalMongoDB, "missing", staticmethod(lambda: None))
    monkeypatch.setattr(rabbitmq, "start_local", lambda *_: BROKER)
    monkeypatch.setattr(mongodb, "start_local", lambda *_: DATABASE)
    for engine in (None, object()):  # the second would fail at the first thing asked of it
        monkeypatch.setattr(docker, "client", lambda engine=engine: engine)
        said: list[str] = []
        with servers.start(tmp_path, keep=True, say=said.append, environment={}):
            assert sorted(said) == ["MongoDB: a local process", "RabbitMQ: a local process"]


def test_given_urls_win_over_docker_and_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_asked(*_: Any) -> None:
        raise AssertionError("given URLs need neither Docker nor a local server")

    asked: list[tuple[str | None, ...]] = []

    def use_broker(*urls: str | None) -> RabbitMQ:
        asked.append(urls)
        return BROKER

    monkeypatch.setattr(docker, "client", not_asked)
    monkeypatch.setattr(rabbitmq, "use_given", use_broker)
    monkeypatch.setattr(mongodb, "use_given", lambda _: DATABASE)
    given = {
        "RABBITMQ_URL": "amqp://a:b@c",
        "MONGODB_URL": "mongodb://a:b@c",
        "RABBITMQ_MANAGEMENT_URL": "http://m",
    }
    with servers.start(tmp_path, keep=False, environment=given) as running:
        assert running.rabbitmq.kind == running.mongodb.kind == "given"
    assert asked == [("amqp://a:b@c", "http://m")]


@pytest.mark.parametrize("url", ["http://broker", "broker:5672", ""])
def test_a_given_url_of_the_wrong_kind_is_refused(url: str) -> None:
    with pytest.raises(ServersError, match="RABBITMQ_URL"):
        rabbitmq.use_given(url, None)
    with pytest.raises(ServersError, match="MONGODB_URL"):
        mongodb.use_given(url)


@pytest.mark.parametrize("lever", ["start", "stop", "kill", "freeze", "thaw"])
def test_given_servers_are_not_ours_to_stop(lever: str) -> None:
    for server in (BROKER, DATABASE):
        with pytest.raises(ServersError, match="not ours"):
            getattr(server, lever)()


@pytest.mark.parametrize("name", ["", "Demo", "a b", "a/b", "-a", "a.b", "a$b", "ä"])
def test_a_name_that_would_need_escaping_somewhere_is_refused(tmp_path: Path, name: str) -> None:
    with servers_on(tmp_path) as running:
        with pytest.raises(ValueError, match="small letters"):
            running.tenant(name, ["intake"])
        with pytest.raises(ValueError, match="small letters"):
            running.tenant("demo", [name])


def test_a_tenant_whose_databases_would_have_too_long_a_name_is_refused(tmp_path: Path) -> None:
    with servers_on(tmp_path) as running, pytest.raises(ValueError, match="longer"):
        running.tenant("t" * 50, ["notifications"])


def test_a_tenants_urls_name_its_own_accounts_and_nothing_else(tmp_path: Path) -> None:
    with servers_on(tmp_path) as running:
        tenant = servers.Tenant("demo", ["intake"], running)
        secrets = [running.state.secret("tenant", "demo", "intake", of) for of in ("rabbitmq", "mongodb")]
        assert tenant.amqp_url("intake") == f"amqp://demo.intake:{secrets[0]}@broker.example:5673/demo"
        assert tenant.mongodb_url("intake") == (
            f"mongodb://intake:{secrets[1]}@one.example:1,two.example:2/demo-intake"
            "?replicaSet=rs0&authSource=demo-intake"
        )
        assert tenant.admin_amqp_url == "amqp://ad%40min:p%2Fw@broker.example:5673/demo"
        with pytest.raises(KeyError, match="billing is no service of demo"):
            tenant.amqp_url("billing")


def test_no_password_is_shown_where_a_server_is_printed() -> None:
    assert "p/w" not in repr(BROKER)
    assert "p%2Fw" not in repr(BROKER)
    assert "pw" not in repr(DATABASE)


def test_a_process_is_frozen_thawed_and_stopped(tmp_path: Path) -> None:
    process = Process(["sleep", "60"], log=tmp_path / "log")
    process.freeze()
    assert psutil.Process(process.pid).status() == psutil.STATUS_STOPPED
    process.thaw()
    assert process.running()
    process.freeze()  # a frozen one is stopped all the same
    process.stop()
    assert not process.running()
    assert not psutil.pid_exists(process.pid)


def test_what_a_process_started_goes_with_it(tmp_path: Path) -> None:
    # `setsid` leaves the session, as Erlang's helpers do.
    process = Process(["bash", "-c", "setsid sleep 61 & echo $!; wait"], log=tmp_path / "log")
    while not (helper := process.last_words()):
        time.sleep(0.01)
    process.kill()
    assert not psutil.pid_exists(int(helper))


@pytest.mark.parametrize("victim", ["owner", "keeper"])
def test_a_process_goes_when_its_owner_or_keeper_is_killed(tmp_path: Path, victim: str) -> None:
    script = (
        "import sys, time; from pathlib import Path; from deploy.local.process import Process\n"
        "process = Process(['sleep', '62'], log=Path(sys.argv[1]), grace=1)\n"
        "print(process.pid, flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "log")], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        os.kill({"owner": owner.pid, "keeper": psutil.Process(pid).ppid()}[victim], signal.SIGKILL)
        assert gone(pid)
        owner.kill()


def test_a_command_that_does_not_exist_is_said(tmp_path: Path) -> None:
    with pytest.raises(ServersError, match=r"no-such-server.*No such file"):
        Process(["/no-such-server"], log=tmp_path / "log")
