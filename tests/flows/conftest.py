"""One running system for all who write to it and are answered: starting it is most of what a test would cost."""

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from deploy.local.servers import Servers
from deploy.topology import service_names
from tests.flows.correspondence import Correspondence, correspondence


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def system(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Correspondence]:
    tenant = servers.tenant(f"t{uuid.uuid4().hex[:10]}", service_names())
    async with correspondence(tenant, tmp_path_factory.mktemp("correspondence")) as running:
        yield running
    tenant.drop()
