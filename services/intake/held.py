"""Messages that wait for an operator: listed, and then added to an enquiry, let begin one, or discarded."""

from collections.abc import Callable
from functools import partial
from uuid import uuid4

from services.intake.acceptance import ATTEMPTS, Acceptance, Messages
from services.intake.domain import Change, Message, Proposal, begin, discard, join
from shared.contracts.replies import Party
from shared.store import ClaimTaken, Incoming, Unavailable


class NoSuchEnquiry(Exception):
    """No enquiry has this reference."""


class HeldMessages:
    """Decides once: whatever is decided about a message that waits no more raises `NotHeld`."""

    def __init__(self, messages: Messages, acceptance: Acceptance) -> None:
        self._messages = messages
        self._acceptance = acceptance

    async def open(self, limit: int = 100) -> list[Message]:
        """Those that wait, the newest first. Raises `Unavailable`."""
        # `$gt` and not `$ne`: the index holds only what has a reason to wait.
        documents = await self._messages.documents({"state.held": {"$gt": ""}}, limit)
        return [Message.model_validate(document["state"]) for document in documents]

    async def join(self, id: str, reference: str, party: Party, operator: str, why: str) -> Message:
        """Add it to the enquiry with this reference. Raises `NotHeld`, `NoSuchEnquiry`, `Unavailable`."""
        enquiry = await self._acceptance.enquiry_with(reference)
        if enquiry is None:
            raise NoSuchEnquiry(reference)
        to = Proposal(enquiry=enquiry, reference=reference)
        decide = partial(join, to=to, party=party, operator=operator, why=why)
        return await self._apply("join", id, enquiry, decide)

    async def begin(self, id: str, operator: str, why: str) -> Message:
        """Let it begin an enquiry. Raises `NotHeld`, `Unavailable`."""
        for attempt in range(ATTEMPTS):
            try:
                decide = partial(begin, operator=operator, why=why, attempt=attempt)
                return await self._apply("begin", id, id, decide)
            except ClaimTaken:
                continue  # another enquiry has this reference
        raise Unavailable("no free reference was found")

    async def discard(self, id: str, operator: str, why: str) -> Message:
        """Make nothing of it. Raises `NotHeld`, `Unavailable`."""
        return await self._apply("discard", id, id, partial(discard, operator=operator, why=why))

    async def _apply(
        self, what: str, id: str, enquiry: str, decide: Callable[[Message | None], Change]
    ) -> Message:
        command = Incoming(f"{what}/{uuid4().hex}", f"held-message.{what}", enquiry)
        answer = await self._messages.apply(command, decide, id=id)
        return answer.state
