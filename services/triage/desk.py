"""Where decisions about cases meet the store: by events, by timers, by partners' answers and by operators."""

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import uuid4

from services.triage.answers import accept, decline, expire, without_money
from services.triage.domain import Case, NoSuchCase, Outcome, follow_up, route
from services.triage.offers import Reason, Standing
from services.triage.programme import Programme
from services.triage.standing import Board
from services.triage.waiting import reopen
from shared.clock import Clock
from shared.contracts.intake import EnquiryFollowedUp, EnquiryReceived
from shared.store import Aggregates, Already, Incoming

Cases = Aggregates[Case, Outcome]
TIMER_LEASE = timedelta(minutes=1)


class Desk:
    """Takes every decision about a case, with the programme, the time and the standing of the partners."""

    def __init__(self, cases: Cases, programme: Programme, clock: Clock, board: Board) -> None:
        self.cases = cases
        self.programme = programme
        self.clock = clock
        self._board = board

    async def route(self, event: EnquiryReceived) -> None:
        """Open a case."""
        await self._board.looked()
        now = self.clock()
        decide = self._board.deciding(
            lambda case, standing: route(case, event, self.programme, now, standing)
        )
        await self.cases.apply(event, decide, opens=True)

    async def note(self, event: EnquiryFollowedUp) -> None:
        """Note what was written about a case. Raises `NoSuchCase`."""
        await self.cases.apply(event, lambda case: follow_up(case, event))

    async def on_due(self, case: Case, _: datetime) -> None:
        """A window has opened, or the time for an answer is over. Either is one message, taken once."""
        await self._board.looked()
        now = self.clock()
        if case.status == "waiting":
            await self.cases.apply(
                Incoming(f"opening/{case.opens_at}", "window.opened", case.enquiry_id, case.received_at),
                self._board.deciding(lambda state, standing: reopen(state, self.programme, now, standing)),
            )
            return
        offer = case.offer
        if offer is None:
            return
        await self.cases.apply(
            Incoming(f"expiry/{offer.id}", "offer.expired", case.enquiry_id),
            self._board.deciding(
                lambda state, standing: expire(state or case, offer.id, self.programme, now, standing)
            ),
        )

    async def no_money(self, enquiry_id: str, offer_id: str, why: str) -> None:
        """What an acceptance costs could not be reserved."""
        now = self.clock()

        def decide(case: Case | None, _: Standing) -> Outcome:
            if case is None:
                raise NoSuchCase(enquiry_id)
            return without_money(case, offer_id, why, now)

        refusal = Incoming(f"money/{offer_id}", "money.refused", enquiry_id)
        await self.cases.apply(refusal, self._board.deciding(decide))

    async def case_of(self, offer_id: str) -> Case | None:
        """The case that was offered so. Raises `Unavailable`."""
        return await self.cases.get(enquiry_of(offer_id))

    async def accept(self, offer_id: str, partner: str, by: str, days: float | None) -> Outcome:
        """A partner's yes. Raises `NoSuchCase`."""
        now = self.clock()
        return await self.decide(
            enquiry_of(offer_id),
            "offer.accepted",
            lambda case, _: accept(case, offer_id, partner, by=by, days=days, now=now),
        )

    async def decline(self, offer_id: str, partner: str, by: str, reason: Reason, words: str) -> Outcome:
        """A partner's no. Raises `NoSuchCase`."""
        now = self.clock()
        return await self.decide(
            enquiry_of(offer_id),
            "offer.declined",
            lambda case, standing: decline(
                case,
                offer_id,
                partner,
                by=by,
                reason=reason,
                words=words,
                programme=self.programme,
                now=now,
                standing=standing,
            ),
        )

    async def decide(
        self, enquiry_id: str, kind: str, decide: Callable[[Case, Standing], Outcome]
    ) -> Outcome:
        """Take one decision about a case there is. Raises `NoSuchCase`."""

        def decided(case: Case | None, standing: Standing) -> Outcome:
            if case is None:
                raise NoSuchCase(enquiry_id)
            return decide(case, standing)

        await self._board.looked()
        command = Incoming(f"command/{uuid4().hex}", kind, enquiry_id)
        # Its events are durable with it; a person need not wait until the broker has them.
        answer = await self.cases.apply(command, self._board.deciding(decided), wait_published=False)
        assert not isinstance(answer, Already)
        return answer


def enquiry_of(offer_id: str) -> str:
    """The enquiry whose case the offer is of."""
    return offer_id.rpartition("-")[0]
