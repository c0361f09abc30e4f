"""Hands queued notifications to the mail server and records what became of each attempt."""

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self
from uuid import uuid4

import structlog

from services.notifications.compose import compose
from services.notifications.domain import (
    Backoff,
    Delivery,
    Letterhead,
    Notification,
    Outcome,
    Unsendable,
    record,
)
from services.notifications.smtp import Mailer
from shared.clock import Clock
from shared.store import Aggregates, Incoming
from shared.supervise import stop, supervise

log = structlog.get_logger()

MARGIN = timedelta(seconds=5)
PLACES_A_WORKER = 4


class Sender:
    """Sends what it is offered while its lease lasts.

    A notification is leased to whoever created it, or to the replica whose timer found it due. Work that
    would outlast its lease is left for the timer, so no two replicas hand over one mail; the one exception
    is a process stopped longer than `MARGIN` in the middle of an attempt, or kept from recording it by its
    database, which the same Message-ID covers. What this process has in hand itself it never takes twice.
    """

    def __init__(
        self,
        notifications: Aggregates[Notification, Outcome],
        mailer: Mailer,
        letterhead: Letterhead,
        backoff: Backoff,
        clock: Clock,
        *,
        workers: int = 16,
        stop_within: float = 15.0,
    ) -> None:
        self._notifications = notifications
        self._mailer = mailer
        self._letterhead = letterhead
        self._backoff = backoff
        self._clock = clock
        self._waiting: asyncio.Queue[tuple[Notification, datetime]] = asyncio.Queue()
        # Bounds the queue, and is waited for before a mail is leased: time spent waiting is not time leased.
        self._places = asyncio.Semaphore(PLACES_A_WORKER * workers)
        self._workers = workers
        self._stop_within = stop_within
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._in_hand: set[str] = set()
        self.lease = timedelta(seconds=mailer.patience) + 2 * MARGIN

    async def __aenter__(self) -> Self:
        self._tasks = [supervise(f"sender.{n}", self._work, pause=0.1) for n in range(self._workers)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the mails in hand; those that wait are left to the timer of whoever runs next."""
        self._stopping = True
        while not self._waiting.empty():
            self._waiting.get_nowait()
            self.free_place()
            self._waiting.task_done()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._waiting.join(), self._stop_within)
        await stop(*self._tasks)
        await self._mailer.close()

    async def hold_place(self) -> None:
        """Wait for room: a slow mail server slows those who ask for mails, instead of filling memory. The place
        is given back by `free_place`, or by having `take` take a notification on."""
        await self._places.acquire()

    def free_place(self) -> None:
        self._places.release()

    def take(self, notification: Notification, until: datetime) -> None:
        """Take a notification on, leased to us until `until`, in a place that is held."""
        # The timer finds again what waits here to be recorded, once an outage has outlasted its lease.
        if self._stopping or notification.id in self._in_hand:
            self.free_place()
            return
        self._in_hand.add(notification.id)
        self._waiting.put_nowait((notification, until))

    async def on_due(self, notification: Notification, until: datetime) -> None:
        """Take on what the timer found."""
        await self.hold_place()
        self.take(notification, until)

    async def _work(self) -> None:
        while True:
            notification, until = await self._waiting.get()
            try:
                if self._clock() + timedelta(seconds=self._mailer.patience) + MARGIN <= until:
                    await self._attempt(notification)
                else:
                    log.warning("notification_left_to_timer", notification=notification.id)
            finally:
                self.free_place()
                self._in_hand.discard(notification.id)
                self._waiting.task_done()

    async def _attempt(self, notification: Notification) -> None:
        letter = compose(notification, self._letterhead)
        delivery: Delivery
        if isinstance(letter, Unsendable):
            delivery = letter
        else:
            delivery = await self._mailer.send(letter.message, letter.sender, letter.recipient)
        now = self._clock()
        attempt = Incoming(f"attempt/{uuid4().hex}", "mail.attempted", notification.enquiry_id)
        answer = await self._notifications.apply(
            attempt,
            lambda state: record(state or notification, delivery, now, self._backoff),
            id=notification.id,
        )
        state = answer.state
        if state.status == "failed":
            log.error("notification_failed", notification=state.id, template=state.content.template)
        elif state.status == "queued":
            log.warning("notification_deferred", notification=state.id, attempts=state.attempts_made)
