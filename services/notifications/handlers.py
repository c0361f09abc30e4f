"""All that notifications hears: each event asks for mails, and each mail is queued durably before the ack."""

import asyncio

from services.notifications.domain import Draft, Letterhead, Notification, Outcome, Queued, create, plan
from services.notifications.sender import Sender
from shared.clock import Clock
from shared.contracts.cloudevents import CloudEvent
from shared.contracts.intake import EnquiryReceived
from shared.contracts.mentoring import MentoringHeld, SessionBooked
from shared.contracts.triage import EnquiryHeld, EnquiryRouted
from shared.messaging.hears import Hears
from shared.store import Aggregates

hears = Hears("notifications")

Notifications = Aggregates[Notification, Outcome]


class Desk:
    """Queues what an event asks for, and offers it to the sender at once."""

    def __init__(
        self, notifications: Notifications, sender: Sender, letterhead: Letterhead, clock: Clock
    ) -> None:
        self._notifications = notifications
        self._sender = sender
        self._letterhead = letterhead
        self._clock = clock

    async def write(self, event: CloudEvent) -> None:
        drafts = plan(event, self._letterhead)
        await asyncio.gather(*(self._queue(event, draft) for draft in drafts))

    async def _queue(self, event: CloudEvent, draft: Draft) -> None:
        await self._sender.hold_place()
        try:
            now = self._clock()
            answer = await self._notifications.apply(
                event, lambda state: create(state, draft, now, self._sender.lease), id=draft.id, opens=True
            )
        except BaseException:
            self._sender.free_place()
            raise
        if isinstance(answer, Queued) and (leased_until := answer.state.next_attempt_at):
            self._sender.take(answer.state, leased_until)
        else:
            self._sender.free_place()


@hears(EnquiryReceived)
async def acknowledge(event: EnquiryReceived, desk: Desk) -> None:
    """Tells the enquirer that their message has arrived, unless it asks for no automatic answer."""
    await desk.write(event)


@hears(EnquiryRouted)
async def send_case_to_partner(event: EnquiryRouted, desk: Desk) -> None:
    """Sends the case to the partner."""
    await desk.write(event)


@hears(EnquiryHeld)
async def tell_operators_of_held_enquiry(event: EnquiryHeld, desk: Desk) -> None:
    """Tells the operators that a case waits for them, and why."""
    await desk.write(event)


@hears(SessionBooked)
async def invite_to_session(event: SessionBooked, desk: Desk) -> None:
    """Invites mentor and mentee."""
    await desk.write(event)


@hears(MentoringHeld)
async def tell_operators_of_held_mentoring(event: MentoringHeld, desk: Desk) -> None:
    """Tells the operators that nobody could be found for a mentoring request."""
    await desk.write(event)
