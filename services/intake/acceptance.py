"""The durable yes: every way in comes through here, and says yes only after it has returned.

Ordinary first mail is one write and no read. Only a message that carries a tie to an enquiry has it looked up.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from uuid import uuid4

from services.intake.domain import (
    ArrivedMail,
    Change,
    Message,
    Outcome,
    Reread,
    accept,
    correlation,
    name_of,
    reread,
)
from services.intake.threads import Candidate, Ties, Trust, ties_of, writer_of
from shared.clock import Clock
from shared.contracts.replies import Party
from shared.store import Aggregates, Already, ClaimTaken, Incoming, Store, Unavailable

Messages = Aggregates[Message, Change]

RAW_FILES = "raw"
ATTEMPTS = 20
PEOPLE_READ = 1_000
WHO = ("state.sender", "state.author", "state.party")
WHERE = ("state.id", "state.message_id", "state.outcome", "state.enquiry", "state.reference")


class Acceptance:
    """Accepts what arrived, once."""

    def __init__(self, store: Store, messages: Messages, clock: Clock, trust: Trust) -> None:
        self._store = store
        self._messages = messages
        self._clock = clock
        self._trust = trust

    async def __call__(self, arrived: ArrivedMail) -> Outcome:
        """Keep the message and what it leads to; the events follow by themselves.

        Waits while the database is away: the caller bounds the wait. Raises `Unavailable`.
        """
        if arrived.raw_is_file:
            await self._store.keep_file(RAW_FILES, arrived.raw_sha256, arrived.raw)
        now = self._clock()
        # A form's id is its client's to choose, so the same id with other content must still be decided on.
        answer = await self._decide(
            arrived,
            None,
            partial(accept, arrived=arrived, now=now),
            f"{arrived.id}:{arrived.fingerprint}",
            now,
        )
        assert not isinstance(answer, Reread)
        return accept(answer.state, arrived, now) if isinstance(answer, Already) else answer

    async def again(self, message: Message, arrived: ArrivedMail, operator: str, *, apply: bool) -> Change:
        """A kept message, read again as `arrived`: what that comes to, and, to `apply` it, kept.

        Raises `Unavailable`.
        """
        decide = partial(reread, arrived=arrived, operator=operator)
        if not apply:
            ties = ties_of(arrived.read, arrived.raw, arrived.rcpt_tos, self._trust.replies)
            candidates = await self._candidates(ties) if ties else ()
            return decide(message, candidates=candidates, trust=self._trust)
        answer = await self._decide(arrived, message, decide, f"reread/{uuid4().hex}", message.accepted_at)
        return Reread(answer.state) if isinstance(answer, Already) else answer

    async def _decide(
        self,
        arrived: ArrivedMail,
        known: Message | None,
        how: Callable[..., Change],
        id: str,
        accepted_at: datetime,
    ) -> "Change | Already[Message]":
        read = arrived.read
        ties = ties_of(read, arrived.raw, arrived.rcpt_tos, self._trust.replies)
        candidates = await self._candidates(ties) if ties else ()
        references_taken = 0
        names_taken: set[str] = set()
        for _ in range(ATTEMPTS):
            decide = partial(
                how,
                attempt=references_taken,
                candidates=candidates,
                trust=self._trust,
                not_known_as=frozenset(names_taken),
            )
            enquiry = correlation(decide(known).state) if candidates or known else arrived.id
            message = Incoming(id, f"message.{'reread' if known else arrived.via}", enquiry, accepted_at)
            try:
                return await self._messages.apply(
                    message, decide, id=arrived.id, opens=known is None, wait_published=False
                )
            except ClaimTaken as taken:
                claim = str(taken)
                if not claim.startswith("m:"):
                    references_taken += 1  # another enquiry has this reference; there are 33 million
                    continue
                names_taken.add(claim)
                if claim == name_of(read.message_id):
                    candidates = (*candidates, *await self._answered_before(arrived))
                else:
                    candidates = await self._candidates(ties)  # what it answers has come this very moment
        raise Unavailable("no free reference was found")

    async def find(self, enquiry: str) -> Message | None:
        """The accepted message with this id. Raises `Unavailable`."""
        return await self._messages.get(enquiry)

    async def enquiry_with(self, reference: str) -> str | None:
        """The id of the enquiry with this reference. Raises `Unavailable`."""
        return await self._messages.claimed_by(reference)

    async def _candidates(self, ties: Ties) -> Sequence[Candidate]:
        """The enquiries the message may belong to, the best tie first. Raises `Unavailable`."""
        found: list[Candidate] = []
        for tie, signed in ties.signed:
            if enquiry := await self.enquiry_with(signed.reference):
                people = await self._people(enquiry)
                found.append(Candidate(enquiry, signed.reference, tie, signed, people))
        if found:
            return found
        if ties.answers:
            names = [name_of(each) for each in ties.answers]
            for document in await self._messages.documents({"claims": {"$in": names}}, only=WHERE):
                enquiry, reference = _belongs_to(document["state"])
                people = await self._people(enquiry)
                found.append(Candidate(enquiry, reference, "their-message-id", people=people))
        if not found and ties.reference and (enquiry := await self.enquiry_with(ties.reference)):
            found.append(Candidate(enquiry, ties.reference, "reference", people=await self._people(enquiry)))
        return found

    async def _answered_before(self, arrived: ArrivedMail) -> Sequence[Candidate]:
        """The enquiry that an answer to this message began, where the same person wrote both."""
        name = name_of(arrived.read.message_id)
        writer = writer_of(arrived.read)
        for document in await self._messages.documents({"claims": name}, only=(*WHERE, *WHO)):
            state = document["state"]
            if state["message_id"] != arrived.read.message_id and writer in _addresses(state):
                enquiry, reference = _belongs_to(state)
                people = await self._people(enquiry)
                return [Candidate(enquiry, reference, "answered-before", people=people)]
        return []

    async def _people(self, enquiry: str) -> Mapping[str, Party]:
        """Everybody whose mail is in the enquiry, by lower-case address. Raises `Unavailable`."""
        members = {"$or": [{"_id": enquiry}, {"state.enquiry": enquiry, "state.outcome": "followed-up"}]}
        found: dict[str, Party] = {}
        for document in await self._messages.documents(members, PEOPLE_READ, only=WHO):
            state = document["state"]
            found |= dict.fromkeys(_addresses(state), state.get("party") or "enquirer")
        return found


def _addresses(state: Mapping[str, object]) -> set[str]:
    sender = state["sender"]
    assert isinstance(sender, Mapping)
    return {str(address).lower() for address in (state["author"], sender["address"]) if address}


def _belongs_to(state: Mapping[str, str]) -> tuple[str, str]:
    return state["enquiry"] or state["id"], state["reference"]
