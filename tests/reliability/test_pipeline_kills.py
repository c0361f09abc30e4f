"""Services killed and stopped while enquiries flow."""

import asyncio
from collections import Counter

from deploy.local.pipeline import STOP_SECONDS
from tests.reliability.pipeline_run import AT_ONCE, Run, dice, everything_exactly_once

KILLS_EACH = 3


async def test_every_service_stops_in_good_order_under_load_and_leaves_nothing_undone(run: Run) -> None:
    async with run.flow(rate=10, tag="stop", at_least=60):
        for name in run.pipeline.services:
            await run.more_accepted(10)
            code, seconds = await run.stop(name)
            print(f"{name} stopped in {seconds:.1f} s")
            assert code == 0 and seconds < STOP_SECONDS, run.log_of()
            assert "stopped_with_work_in_hand" not in run.service(name).log_tail()
            await run.start(name)
            await run.ready(name)
    await everything_exactly_once(run)


async def test_services_killed_at_random_while_500_enquiries_flow_lose_and_double_nothing(run: Run) -> None:
    """But for mails handed over whose record the kill prevented: those come again, and are counted."""
    random = dice()
    kills: Counter[str] = Counter()
    async with run.flow(rate=25, tag="kill", at_least=500):
        await run.more_accepted(20)
        for _ in range(KILLS_EACH):
            for name in random.sample(sorted(run.pipeline.services), k=len(run.pipeline.services)):
                await asyncio.sleep(random.uniform(0.2, 2.0))  # the random instant; others may be starting
                await run.kill(name)
                kills[name] += 1
                await run.start(name)
        await run.ready()
    doubled = await everything_exactly_once(run, doubled_mails=kills["notifications"] * AT_ONCE, seconds=90)
    print(f"killed: {dict(kills)}; put off: {dict(run.put_off)}")
    print(f"{doubled} mails handed over again of {len(run.sink.arrivals)}")
    assert len(run.accepted) >= 500 and min(kills.values()) >= KILLS_EACH
