"""Runs the services as separate processes on one machine: for the demo, the tests and the benchmark."""

import asyncio
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import httpx

from deploy.local.process import Process, claim_port
from deploy.local.servers import Tenant, quiet
from deploy.topology import partner_slugs, service_names, topologies
from shared.messaging.topology import declare

ROOT = Path(__file__).resolve().parents[2]
PROGRAMME = ROOT / "deploy" / "programme"
START_SECONDS = 60.0
STOP_SECONDS = 25.0
SMTP_PORT, LMTP_PORT, HTTP_PORT = 2525, 2424, 8000
ADDRESS = "enquiries@programme.example"
OPERATORS = "operators@programme.example"


class DidNotStart(Exception):
    """A service ended or stayed unready; the message holds the end of its log."""


@dataclass
class ServiceProcess:
    """One service as an operating-system process, with its log in a file. It ends with whoever started it."""

    name: str
    port: int
    environment: Mapping[str, str]
    log_file: Path
    process: Process | None = None
    _log_begins: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.kill()
        # What an earlier run wrote there would be taken for the cause of this one's trouble.
        self._log_begins = self.log_file.stat().st_size if self.log_file.exists() else 0
        self.process = Process(
            [sys.executable, "-P", "-m", f"services.{self.name}.app"],
            log=self.log_file,
            env={**os.environ, **self.environment, "PYTHONUNBUFFERED": "1", "PYTHONPATH": python_path()},
            grace=STOP_SECONDS,
        )

    def running(self) -> bool:
        return self.process is not None and self.process.running()

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Return once it answers that broker and database do; raises `DidNotStart`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.running():
            try:
                if httpx.get(f"{self.url}/health/ready", timeout=2, trust_env=False).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.05)
        raise DidNotStart(f"{self.name} did not become ready. {self.last_words()}")

    def last_words(self) -> str:
        """The end of its log, and where the rest is, for a message to people."""
        return f"The end of its log ({self.log_file}):\n{self.log_tail()}"

    def log_tail(self, lines: int = 20) -> str:
        try:
            text = self.log_file.read_bytes()[self._log_begins :].decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        if self.process is not None:
            self.process.kill()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL if it has not ended in time."""
        if self.process is not None:
            self.process.stop()


def python_path() -> str:
    """Lets a child that starts elsewhere find this project first."""
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


class Pipeline:
    """All services on one tenant's broker and databases, sending mail to the server on `mail_server_port`."""

    def __init__(
        self,
        tenant: Tenant,
        folder: Path,
        *,
        mail_server_port: int,
        clock_offset: timedelta = timedelta(0),
        extra: Mapping[str, str] | None = None,
        operator_token: str | None = None,
        web_form_key: str | None = None,
        reply_key: str | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.tenant = tenant
        self.operator_token = operator_token or secrets.token_urlsafe(24)
        self.web_form_key = web_form_key or secrets.token_urlsafe(24)
        self.reply_key = reply_key or secrets.token_urlsafe(24)
        self.partner_keys = {slug: tenant.secret("partner", slug, "key") for slug in partner_slugs()}
        self._claims = ExitStack()
        self.smtp_port, self.lmtp_port = self._claim(SMTP_PORT), self._claim(LMTP_PORT)
        particular = {
            "INTAKE_SMTP_PORT": str(self.smtp_port),
            "INTAKE_LMTP_PORT": str(self.lmtp_port),
            "INTAKE_RECIPIENTS": f'["{ADDRESS}"]',
            "INTAKE_REPLY_KEYS": json.dumps([self.reply_key]),
            "NOTIFICATIONS_REPLY_KEYS": json.dumps([self.reply_key]),
            "TRIAGE_PROGRAMME": str(PROGRAMME / "programme.yaml"),
            "TRIAGE_LINK_KEYS": json.dumps([tenant.secret("triage", "links")]),
            "TRIAGE_PARTNER_KEYS": json.dumps(self.partner_keys),
            "MENTORING_MENTORS": str(PROGRAMME / "mentors.yaml"),
            "NOTIFICATIONS_PROGRAMME": str(PROGRAMME / "programme.yaml"),
            "NOTIFICATIONS_SENDER_ADDRESS": ADDRESS,
            "NOTIFICATIONS_OPERATORS_ADDRESS": OPERATORS,
            "NOTIFICATIONS_SMTP_HOST": "127.0.0.1",
            "NOTIFICATIONS_SMTP_PORT": str(mail_server_port),
        }
        self.services: dict[str, ServiceProcess] = {}
        for number, name in enumerate(service_names()):
            prefix, port = name.upper(), self._claim(HTTP_PORT + number)
            common = {
                f"{prefix}_RABBITMQ_URL": tenant.amqp_url(name),
                f"{prefix}_MONGODB_URL": tenant.mongodb_url(name),
                f"{prefix}_OPERATOR_TOKEN": self.operator_token,
                f"{prefix}_HTTP_PORT": str(port),
                f"{prefix}_CLOCK_OFFSET": str(clock_offset.total_seconds()),
                f"{prefix}_LOG_FORMAT": "json",
            }
            if name == "triage":
                common["TRIAGE_PUBLIC_URL"] = f"http://127.0.0.1:{port}"
            environment = {**common, **particular, **(extra or {})}
            mine = {key: value for key, value in environment.items() if key.startswith(f"{prefix}_")}
            self.services[name] = ServiceProcess(name, port, mine, folder / f"{name}.log")

    def _claim(self, preferred: int) -> int:
        """The preferred port or another, ours until `stop`: another run may start before a service listens, or
        while one that was killed is started again, and would be sent its mail."""
        port, claim = claim_port(preferred)
        self._claims.enter_context(claim)
        return port

    def start(self, say: Callable[[str], None] = quiet, *, only: Collection[str] = ()) -> None:
        """Declare the topology, start every service, or `only` some, and wait until each is ready.

        Raises `DidNotStart`, or whatever `say` raised, with nothing left running.
        """
        try:
            asyncio.run(declare(self.tenant.admin_amqp_url, topologies()))
            started = [service for name, service in self.services.items() if not only or name in only]
            for service in started:
                service.start()
            for service in started:
                service.wait_ready()
                say(f"{service.name} is ready at {service.url}")
            self._let_web_form_in()
        except BaseException:
            self.stop()
            raise

    def _let_web_form_in(self) -> None:
        """Make its key one of intake's; the same again, at the next start, changes nothing."""
        answer = httpx.post(
            f"{self.services['intake'].url}/keys",
            json={"name": "web-form", "digest": sha256(self.web_form_key.encode()).hexdigest()},
            headers={"Authorization": f"Bearer {self.operator_token}"},
            timeout=30,
            trust_env=False,
        )
        answer.raise_for_status()

    def stop(self) -> None:
        """Stop the services side by side, each within its own bound."""
        self._claims.close()
        with ThreadPoolExecutor() as pool:
            list(pool.map(ServiceProcess.stop, self.services.values()))

    def __enter__(self) -> "Pipeline":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
