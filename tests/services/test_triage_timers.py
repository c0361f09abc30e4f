"""What triage does by itself when a time has come, on the real database and by a clock that the test sets."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deploy.local.servers import Tenant
from services.triage.desk import TIMER_LEASE, Cases, Desk
from services.triage.domain import Case, due
from services.triage.events import announce
from services.triage.standing import Board
from shared.store import aggregates
from shared.store.database import Store
from tests.conftest import eventually
from tests.unit.triage_examples import received, the_programme

CLOSED = datetime(2018, 7, 10, 9, tzinfo=UTC)
OPENING = datetime(2018, 9, 3, 8, tzinfo=UTC)
MANY = 30


@dataclass
class Office:
    """Triage's timers in several replicas, the clock they go by, and what they have said."""

    tenant: Tenant
    now: datetime = CLOSED
    said: list[str] = field(default_factory=list)

    async def publish(self, entry: Any) -> None:
        self.said.append(entry.type)

    def clock(self) -> datetime:
        return self.now

    @asynccontextmanager
    async def replica(self) -> AsyncIterator[Desk]:
        store = Store(self.tenant.mongodb_url("triage"), "triage", self.clock)
        cases: Cases = store.aggregates("cases", Case, announce, due=due)

        async def no_conflicts() -> tuple[()]:
            return ()

        board = Board(cases, no_conflicts)
        desk = Desk(cases, the_programme(), self.clock, board)
        store.on_due("cases", desk.on_due, TIMER_LEASE)
        await store.start(self)
        async with board:
            yield desk
        await store.stop()


@pytest.fixture
def office(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> Office:
    monkeypatch.setattr(aggregates, "SWEEP_SECONDS", 0.05)
    return Office(tenant)


async def enquire(desk: Desk, office: Office, n: int) -> None:
    event = received(accepted_at=office.now).model_copy(
        update={"id": f"event-{n}", "correlationid": f"{n:032x}"}
    )
    await desk.route(event)


def with_status(desk: Desk, status: str) -> Callable[[], Any]:
    async def count() -> bool:
        return len(await desk.cases.documents({"state.status": status})) == MANY

    return count


async def test_cases_kept_for_a_window_are_routed_once_when_it_opens_by_whichever_replica_whatever_restarted(
    office: Office,
) -> None:
    async with office.replica() as desk:
        await asyncio.gather(*(enquire(desk, office, n) for n in range(MANY)))
        assert await with_status(desk, "waiting")()
    assert office.said == [], "their acknowledgement has told them"
    async with AsyncExitStack() as stack:
        first, _ = [await stack.enter_async_context(office.replica()) for _ in range(2)]
        office.now = OPENING - timedelta(seconds=1)
        await asyncio.gather(*(enquire(first, office, n) for n in range(MANY)))  # delivered again
        assert await with_status(first, "waiting")()
        office.now = OPENING
        await eventually(with_status(first, "routed"), 15, "every case routed")
        await eventually(lambda: len(office.said) >= MANY)
        assert await first.cases.documents({"due_at": {"$lte": office.now}}) == [], "and never again"
    assert office.said == ["enquiry.routed.v1"] * MANY
