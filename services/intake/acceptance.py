"""The durable yes: every way in comes through here, and says yes only after it has returned."""

from functools import partial

from services.intake.domain import ArrivedMail, Message, Outcome, accept
from shared.clock import Clock
from shared.store import Aggregates, Already, ClaimTaken, Incoming, Store, Unavailable

Messages = Aggregates[Message, Outcome]

RAW_FILES = "raw"
REFERENCES_TRIED = 20


class Acceptance:
    """Accepts what arrived, once."""

    def __init__(self, store: Store, messages: Messages, clock: Clock) -> None:
        self._store = store
        self._messages = messages
        self._clock = clock

    async def __call__(self, arrived: ArrivedMail) -> Outcome:
        """Keep the message and what it leads to; the events follow by themselves.

        Waits while the database is away: the caller bounds the wait. Raises `Unavailable`.
        """
        if arrived.raw_is_file:
            await self._store.keep_file(RAW_FILES, arrived.raw_sha256, arrived.raw)
        now = self._clock()
        # A form's id is its client's to choose, so the same id with other content must still be decided on.
        message = Incoming(f"{arrived.id}:{arrived.fingerprint}", f"message.{arrived.via}", arrived.id, now)
        for attempt in range(REFERENCES_TRIED):
            decide = partial(accept, arrived=arrived, now=now, attempt=attempt)
            try:
                answer = await self._messages.apply(message, decide, opens=True, wait_published=False)
            except ClaimTaken:
                continue  # another enquiry has this reference; there are 33 million
            return accept(answer.state, arrived, now) if isinstance(answer, Already) else answer
        raise Unavailable("no free reference was found")

    async def find(self, enquiry: str) -> Message | None:
        """The accepted message with this enquiry id. Raises `Unavailable`."""
        return await self._messages.get(enquiry)
