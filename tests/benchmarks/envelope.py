"""One hot envelope: decisions a second through `Aggregates.apply` on the real database."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

from deploy.local.servers import Tenant
from services.triage.envelopes.api import Envelopes, take
from services.triage.envelopes.domain import Envelope, Kind, Order, Refused
from services.triage.programme import Programme
from shared.clock import clock
from shared.store.database import Store

AT_ONCE = 200  # as many as a group commit takes
CASES = 1_000
EACH_CASE: tuple[tuple[Kind, int], ...] = (
    ("reserve", 1_000_00),
    ("commit", 900_00),
    ("release", 100_00),
    ("spend", 900_00),
    ("match", 250_00),
)


class _Silent:
    """Envelopes announce nothing, so no broker is needed."""

    async def publish(self, entry: object) -> None:
        raise AssertionError(f"nothing is said, and this was: {entry}")


async def measure(tenant: Tenant, programme: Programme) -> dict[str, Any]:
    """The whole life of many cases' money, as fast as one process goes; every order is durable when answered."""
    store = Store(tenant.mongodb_url("triage"), "triage", clock())
    envelopes: Envelopes = store.aggregates("envelopes", Envelope, lambda *_: [], remember=2)
    await store.start(_Silent())
    places = asyncio.Semaphore(AT_ONCE)
    at = datetime(2018, 9, 24, 9, tzinfo=UTC)

    async def live(n: int) -> None:
        async with places:
            for kind, pence in EACH_CASE:
                order = Order(
                    f"{n}-{kind}",
                    kind,
                    f"{n:032x}",
                    "MSP-7F3K-2Q",
                    "baxendale",
                    pence,
                    "bench",
                    "measured",
                    at,
                )
                outcome = await take(envelopes, "advice", order, programme)
                assert not isinstance(outcome, Refused), outcome.why

    started = time.perf_counter()
    await asyncio.gather(*(live(n) for n in range(CASES)))
    took = time.perf_counter() - started
    there = await envelopes.get("advice")
    await store.stop()
    assert there is not None and there.spent == there.held == CASES * 900_00, "balances to the penny"
    decisions = CASES * len(EACH_CASE)
    return {
        "decisions": decisions,
        "at_once": AT_ONCE,
        "seconds": round(took, 2),
        "per_second": round(decisions / took, 1),
    }
