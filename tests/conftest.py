"""Real servers, started once a run; a fresh virtual host and fresh databases for each test."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from deploy.local.servers import Servers, Tenant, start
from deploy.topology import service_names

# How long one example takes says how busy the machine is; bounds of time are measured where they are promised.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

Eventually = Callable[..., Awaitable[None]]


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    state: Path = tmp_path_factory.mktemp("servers")
    with start(state, keep=False) as running:
        yield running


@pytest.fixture
def tenant(servers: Servers) -> Iterator[Tenant]:
    made = servers.tenant(f"t{uuid.uuid4().hex[:10]}", service_names())
    yield made
    made.drop()


async def eventually(condition: Callable[[], object], seconds: float = 15.0, what: str = "") -> None:
    """Wait until `condition` (sync or async) is true; a test says what it waits for, never how long."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or condition}")
        await asyncio.sleep(0.02)
