"""The desk: queues what an event asks for within its budgets, and takes down what is heard of mail that was sent."""

import asyncio
from functools import partial

import structlog

from services.notifications.budget import Budgets
from services.notifications.domain import (
    Draft,
    Letterhead,
    Notification,
    Outcome,
    Queued,
    came_back,
    create,
    suppress,
    was_answered,
)
from services.notifications.plan import bounce_notice, held_back_notice, plan
from services.notifications.sender import Sender
from shared.clock import Clock
from shared.contracts.cloudevents import CloudEvent
from shared.contracts.intake import MailAutoReplied, MailBounced
from shared.store import Aggregates, Already, ClaimTaken, Incoming
from shared.store.cause import Message

log = structlog.get_logger()

Notifications = Aggregates[Notification, Outcome]

RACES = 50
"""Places lost to other processes before the event waits in a retry tier; each one lost is one that somebody won."""
LOOKED_AT = 50


class Desk:
    """Queues what an event asks for, and offers it to the sender at once."""

    def __init__(
        self,
        notifications: Notifications,
        sender: Sender,
        letterhead: Letterhead,
        budgets: Budgets,
        clock: Clock,
    ) -> None:
        self._notifications = notifications
        self._sender = sender
        self._letterhead = letterhead
        self._budgets = budgets
        self._clock = clock

    async def write(self, event: CloudEvent) -> None:
        drafts = plan(event, self._letterhead)
        await asyncio.gather(*(self._queue(event, draft) for draft in drafts))

    async def take_back(self, event: MailBounced) -> None:
        """Mark the mail that came back, and tell the operators where somebody waits for it."""
        bounced = event.data
        if (sent := await self._sent(event)) is None:
            log.info("bounce_of_no_known_mail")
            return
        answer = await self._notifications.apply(
            event,
            lambda state: came_back(state or sent, bounced.failed, bounced.accepted_at),
            id=sent.id,
        )
        if notice := bounce_notice(answer.state, self._letterhead):
            await self._queue(event, notice)

    async def note_answer(self, event: MailAutoReplied) -> None:
        """Note with the mail that a machine answered it."""
        if (sent := await self._sent(event)) is None:
            log.info("automatic_answer_to_no_known_mail")
            return
        await self._notifications.apply(
            event, lambda state: was_answered(state or sent, event.data), id=sent.id
        )

    async def _sent(self, event: MailBounced | MailAutoReplied) -> Notification | None:
        """The mail it is about: by its id, or the newest to whoever plays that part in the enquiry.

        Only what we signed tells either, so nobody can have a mail marked that they have not seen.
        """
        if event.data.notification:
            return await self._notifications.get(event.data.notification)
        if event.data.party is None:
            return None
        found = await self._notifications.documents({"correlation": event.correlationid}, LOOKED_AT)
        for document in found:
            state = document["state"]
            if state["party"] == event.data.party and state["status"] != "suppressed":
                return Notification.model_validate(state)
        return None

    async def _queue(self, cause: Message, draft: Draft) -> None:
        await self._sender.hold_place()
        try:
            answer = await self._within_budgets(cause, draft)
        except BaseException:
            self._sender.free_place()
            raise
        state = answer.state
        if isinstance(answer, Queued) and state.next_attempt_at:
            self._sender.take(state, state.next_attempt_at)
        else:
            self._sender.free_place()
        if state.status == "suppressed":
            # Also where the event comes again: the first time may have ended before the operators were told.
            await self._tell_of_held_back(state)

    async def _within_budgets(self, cause: Message, draft: Draft) -> Outcome | Already[Notification]:
        for _ in range(RACES):
            now = self._clock()
            charges = self._budgets.take(draft.budgets, now)
            if charges is not None:
                decide = partial(create, draft=draft, now=now, lease=self._sender.lease, charges=charges)
                try:
                    return await self._notifications.apply(cause, decide, id=draft.id, opens=True)
                except ClaimTaken:
                    pass
            taken = await self._notifications.claimed(self._budgets.ranges(draft.budgets, now))
            self._budgets.learn(draft.budgets, now, taken)
            if charges is None and (why := self._budgets.full(draft.budgets, now)):
                log.warning("notification_suppressed", notification=draft.id, template=draft.content.template)
                hold = partial(suppress, draft=draft, now=now, why=why)
                return await self._notifications.apply(cause, hold, id=draft.id, opens=True)
        raise ClaimTaken(draft.id)

    async def _tell_of_held_back(self, state: Notification) -> None:
        notice = held_back_notice(state, self._letterhead, state.created_at)
        cause = Incoming(f"held-back/{notice.id}", "mail.held-back", state.enquiry_id)
        await self._queue(cause, notice)
