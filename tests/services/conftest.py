"""Intake alone, as a process of its own on real servers: what its ways in are tested against."""

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pymongo
import pytest
import pytest_asyncio

from deploy.local.pipeline import ROOT, Pipeline, ServiceProcess
from deploy.local.servers import Servers, Tenant
from deploy.topology import service_names


@dataclass(frozen=True)
class Intake:
    """The process, what it keeps, and its command lines."""

    tenant: Tenant
    pipeline: Pipeline
    operator_file: Path
    key_file: Path
    database: "pymongo.MongoClient[dict[str, Any]]"

    @property
    def process(self) -> ServiceProcess:
        return self.pipeline.services["intake"]

    def messages(self, query: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        return list(self.database[self.tenant.database("intake")]["messages"].find(query or {}))

    async def run(
        self, module: str, *arguments: str, stdin: bytes = b"", **variables: str
    ) -> "subprocess.CompletedProcess[bytes]":
        """`python -m services.intake.…`, as people and mail servers run it."""
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", f"services.intake.{module}", *arguments],
            cwd=ROOT,
            input=stdin,
            env={
                **os.environ,
                "MUTUALS_OPERATOR_FILE": str(self.operator_file),
                "MUTUALS_INTAKE_URL": self.process.url,
                "MUTUALS_INTAKE_KEY_FILE": str(self.key_file),
                "NO_COLOR": "1",
                "COLUMNS": "200",
                **variables,
            },
            capture_output=True,
            check=False,
            timeout=60,
        )

    def client(self, key: str | None = None) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {key or self.pipeline.web_form_key}"}
        return httpx.AsyncClient(base_url=self.process.url, headers=headers, trust_env=False)


@asynccontextmanager
async def running_intake(
    servers: Servers, folder: Path, extra: Mapping[str, str] | None = None
) -> AsyncIterator[Intake]:
    tenant = servers.tenant(f"t{uuid.uuid4().hex[:10]}", service_names())
    pipeline = Pipeline(tenant, folder, mail_server_port=1, extra=extra)
    operator_file, key_file = folder / "operator.json", folder / "intake.key"
    services = {"intake": pipeline.services["intake"].url}
    operator_file.write_text(json.dumps({"token": pipeline.operator_token, "services": services}))
    key_file.write_text(pipeline.web_form_key + "\n")
    with pymongo.MongoClient[dict[str, Any]](tenant.admin_mongodb_url, tz_aware=True) as database:
        try:
            await asyncio.to_thread(pipeline.start, only=["intake"])
            yield Intake(tenant, pipeline, operator_file, key_file, database)
        finally:
            await asyncio.to_thread(pipeline.stop)
            tenant.drop()


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def intake(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Intake]:
    async with running_intake(servers, tmp_path_factory.mktemp("intake")) as running:
        yield running
