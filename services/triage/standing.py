"""What each process knows of the partners: the work they have in hand, and their conflicts of interest.

Kept in memory, so that an enquiry costs no question to the database. Another replica's decisions are learnt with the
next look: capacity may be overshot by as much, and a conflict recorded meanwhile takes the offer back (`register`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Protocol, Self, TypeVar

from services.triage.domain import Case, Outcome
from services.triage.offers import Conflict, Standing
from shared.store import Aggregates
from shared.supervise import stop, supervise

LOOK_SECONDS = 2.0
LOOKS_A_COUNT = 15
IN_HAND = ("routed", "accepted")


class Decided(Protocol):
    """Any outcome of a decision about a case."""

    @property
    def state(self) -> Case: ...


O = TypeVar("O", bound=Decided)  # noqa: E741


class Board:
    """The standing of every partner as this process sees it, looked up again while it is entered."""

    def __init__(
        self, cases: Aggregates[Case, Outcome], conflicts: Callable[[], Awaitable[Sequence[Conflict]]]
    ) -> None:
        self._cases = cases
        self._conflicts = conflicts
        self._looked = asyncio.Event()
        self._days: dict[str, float] = {}
        self._seen: dict[str, tuple[str, float] | None] = {}
        self._known: tuple[Conflict, ...] = ()
        self._task: asyncio.Task[None] | None = None

    @property
    def standing(self) -> Standing:
        return Standing(self._days, self._known)

    def deciding(self, decide: Callable[[Case | None, Standing], O]) -> Callable[[Case | None], O]:
        """A decision that is told the standing as it is then, and leaves its own mark on it. Deciding twice
        leaves one mark."""

        def decided(case: Case | None) -> O:
            outcome = decide(case, self.standing)
            self._note(case, outcome.state)
            return outcome

        return decided

    def _note(self, before: Case | None, after: Case) -> None:
        earlier = self._seen.get(after.enquiry_id, in_hand(before))
        now = in_hand(after)
        self._seen[after.enquiry_id] = now
        if earlier == now:
            return
        for known, sign in ((earlier, -1), (now, 1)):
            if known:
                slug, days = known
                self._days[slug] = self._days.get(slug, 0.0) + sign * days

    async def looked(self) -> None:
        """Return once there has been a first look: before it nobody's conflicts are known."""
        await self._looked.wait()

    async def __aenter__(self) -> Self:
        self._task = supervise("standing", self._look_again)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await stop(self._task)

    async def _look_again(self) -> None:
        while True:
            await self.count()
            for _ in range(LOOKS_A_COUNT):
                await self.look()
                self._looked.set()
                await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Read the conflicts on record."""
        self._known = tuple(await self._conflicts())

    async def count(self) -> None:
        """Add up the work every partner has in hand."""
        found = await self._cases.ask(
            [
                {"$match": {"state.status": {"$in": list(IN_HAND)}}},
                {"$group": {"_id": "$state.partner.slug", "days": {"$sum": "$state.days"}}},
            ]
        )
        self._days = {line["_id"]: line["days"] for line in found}
        self._seen = {}


def in_hand(case: Case | None) -> tuple[str, float] | None:
    """The partner that has the case, and the working days it is."""
    if case is None or case.partner is None or case.status not in IN_HAND:
        return None
    return case.partner.slug, case.days
