"""Keeps a background loop alive: it may fail, but it may not silently end."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger()


def supervise(name: str, run: Callable[[], Awaitable[None]], *, pause: float = 1.0) -> "asyncio.Task[None]":
    """Start `run` as a task that is started again whenever it ends, until the task is cancelled.

    A frozen broker can surface as `CancelledError` inside a publish, which `except Exception` misses: only a
    cancellation that was asked of this very task ends it.
    """

    async def forever() -> None:
        while True:
            try:
                await run()
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                log.warning("background_loop_cancelled_from_within", loop=name)
            except Exception:
                log.exception("background_loop_failed", loop=name)
            await asyncio.sleep(pause)

    return asyncio.create_task(forever(), name=name)


async def stop(*tasks: "asyncio.Task[None] | None") -> None:
    """Cancel the tasks and wait until they have ended."""
    alive = [task for task in tasks if task is not None]
    for task in alive:
        task.cancel()
    await asyncio.gather(*alive, return_exceptions=True)
