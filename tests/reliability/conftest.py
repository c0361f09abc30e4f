"""A whole pipeline for the tests that need one, started once: starting is most of what a test would cost."""

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from deploy.local.servers import Servers, start
from deploy.topology import service_names
from tests.reliability.pipeline_run import Run, running


class Pipelines:
    """Gives the running pipeline, or a new one where the last test has left it unsettled."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self._servers = servers
        self._folder = folder
        self._stack = AsyncExitStack()
        self._run: Run | None = None

    async def take(self) -> Run:
        if self._run is None or not self._run.settled:
            await self.close()
            tenant = self._servers.tenant(f"t{uuid.uuid4().hex[:10]}", service_names())
            self._stack.callback(tenant.drop)
            folder = self._folder / tenant.name
            self._run = await self._stack.enter_async_context(running(self._servers, tenant, folder))
        self._run.settled = False
        return self._run

    async def close(self) -> None:
        self._run = None
        await self._stack.aclose()


@pytest.fixture(scope="session")
def own_servers(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> "Servers":
    """Servers that may be stopped and killed: those given by URL are not ours to."""
    if "given" in (servers.rabbitmq.kind, servers.mongodb.kind):
        return start(tmp_path_factory.mktemp("own-servers"), keep=False, environment={})
    return servers


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def pipelines(
    own_servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Pipelines]:
    made = Pipelines(own_servers, tmp_path_factory.mktemp("pipelines"))
    yield made
    await made.close()


@pytest_asyncio.fixture(loop_scope="session")
async def run(pipelines: Pipelines) -> Run:
    return await pipelines.take()
