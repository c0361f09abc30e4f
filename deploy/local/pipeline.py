"""Runs the services as separate processes on one machine: for the demo, the tests and the benchmark."""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import IO

import httpx

from deploy.local.servers import Tenant, free_port
from deploy.topology import service_names, topologies
from shared.messaging.topology import declare

ROOT = Path(__file__).resolve().parents[2]
PROGRAMME = ROOT / "deploy" / "programme"
START_SECONDS = 60.0
ADDRESS = "enquiries@programme.example"
OPERATORS = "operators@programme.example"


class DidNotStart(Exception):
    """A service ended or stayed unready; the message holds the end of its log."""


@dataclass
class ServiceProcess:
    """One service as an operating-system process, with its log in a file."""

    name: str
    port: int
    environment: Mapping[str, str]
    log_file: Path
    process: "subprocess.Popen[bytes] | None" = None
    _log: "IO[bytes] | None" = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._log = self.log_file.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"services.{self.name}.app"],
            cwd=ROOT,
            env={**os.environ, **self.environment, "PYTHONUNBUFFERED": "1"},
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the demo, which stops its services in order
        )

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Return once it answers that broker and database do; raises `DidNotStart`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                break
            try:
                if httpx.get(f"{self.url}/health/ready", timeout=2).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.05)
        raise DidNotStart(f"{self.name} did not become ready:\n{self.log_tail()}")

    def log_tail(self, lines: int = 20) -> str:
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._close()

    def stop(self, seconds: float = 25.0) -> int | None:
        """SIGTERM, then SIGKILL if it has not ended in time; returns its exit code."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._close()
        return self.process.returncode

    def _close(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None


class Pipeline:
    """The four services on one tenant's broker and databases, sending their mail to the server on `mail_server_port`."""

    def __init__(
        self,
        tenant: Tenant,
        folder: Path,
        *,
        mail_server_port: int,
        clock_offset: timedelta = timedelta(0),
        extra: Mapping[str, str] | None = None,
        operator_token: str | None = None,
        web_form_token: str | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.tenant = tenant
        self.operator_token = operator_token or secrets.token_urlsafe(24)
        self.web_form_token = web_form_token or secrets.token_urlsafe(24)
        self.smtp_port, self.lmtp_port = free_port(2525), free_port(2424)
        particular = {
            "INTAKE_SMTP_PORT": str(self.smtp_port),
            "INTAKE_LMTP_PORT": str(self.lmtp_port),
            "INTAKE_RECIPIENTS": f'["{ADDRESS}"]',
            "INTAKE_TOKENS": json.dumps({"web-form": self.web_form_token}),
            "TRIAGE_PROGRAMME": str(PROGRAMME / "programme.yaml"),
            "MENTORING_MENTORS": str(PROGRAMME / "mentors.yaml"),
            "NOTIFICATIONS_SENDER_ADDRESS": ADDRESS,
            "NOTIFICATIONS_OPERATORS_ADDRESS": OPERATORS,
            "NOTIFICATIONS_SMTP_HOST": "127.0.0.1",
            "NOTIFICATIONS_SMTP_PORT": str(mail_server_port),
        }
        self.services: dict[str, ServiceProcess] = {}
        for number, name in enumerate(service_names()):
            prefix, port = name.upper(), free_port(8000 + number)
            common = {
                f"{prefix}_RABBITMQ_URL": tenant.amqp_url(name),
                f"{prefix}_MONGODB_URL": tenant.mongodb_url(name),
                f"{prefix}_OPERATOR_TOKEN": self.operator_token,
                f"{prefix}_HTTP_PORT": str(port),
                f"{prefix}_CLOCK_OFFSET": str(clock_offset.total_seconds()),
                f"{prefix}_LOG_FORMAT": "json",
            }
            environment = {**common, **particular, **(extra or {})}
            mine = {key: value for key, value in environment.items() if key.startswith(f"{prefix}_")}
            self.services[name] = ServiceProcess(name, port, mine, folder / f"{name}.log")

    def start(self, say: Callable[[str], None] = lambda line: None) -> None:
        """Declare the topology, start every service and wait until each is ready; raises `DidNotStart`."""
        asyncio.run(declare(self.tenant.admin_amqp_url, topologies()))
        for service in self.services.values():
            service.start()
        for service in self.services.values():
            service.wait_ready()
            say(f"{service.name} is ready at {service.url}")

    def stop(self) -> None:
        """Stop the services side by side, each within its own bound."""
        for service in self.services.values():
            if service.process is not None and service.process.poll() is None:
                service.process.send_signal(signal.SIGTERM)
        for service in self.services.values():
            service.stop()

    def __enter__(self) -> "Pipeline":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
