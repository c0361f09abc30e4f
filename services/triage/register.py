"""The register of conflicts of interest: recorded by a named person, ended by one, and enforced on cases already out.

A conflict that is recorded takes effect on what is out by a timer, twice: a replica that had not heard of it may have
made one more offer meanwhile.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from uuid import uuid4

from services.triage.answers import withdraw_for_conflict
from services.triage.domain import Case, Outcome
from services.triage.offers import Conflict
from services.triage.programme import Programme
from services.triage.standing import IN_HAND, Board
from shared.clock import Clock
from shared.contracts.cloudevents import CloudEvent
from shared.store import Aggregates, Cause, Incoming

SECOND_SWEEP = timedelta(seconds=10)
"""Longer than any replica goes without a look at the register."""
SWEEP_LEASE = timedelta(minutes=1)
AT_MOST = 10_000


class Recorded(Conflict):
    """A conflict on record. `sweep_at` is when the cases that are out have to be looked through (again)."""

    id: str
    recorded_at: datetime
    sweep_at: datetime | None
    last_sweep: bool = False
    ended_by: str = ""
    ended_why: str = ""


@dataclass(frozen=True, slots=True)
class Noted:
    """The register has changed."""

    state: Recorded


def sweep_due(conflict: Recorded) -> datetime | None:
    return conflict.sweep_at


def say_nothing(_: Noted, __: Cause) -> list[CloudEvent]:
    """The register has no events of its own: what follows from it, cases say."""
    return []


class Register:
    """The register, in the database, and what enforces it."""

    def __init__(
        self,
        conflicts: Aggregates[Recorded, Noted],
        cases: Aggregates[Case, Outcome],
        programme: Programme,
        clock: Clock,
    ) -> None:
        self._conflicts = conflicts
        self._cases = cases
        self._programme = programme
        self._clock = clock
        self.board = Board(cases, self.all)

    async def all(self) -> list[Recorded]:
        """Every conflict on record, newest first. Raises `Unavailable`."""
        found = await self._conflicts.documents({}, AT_MOST)
        return [Recorded.model_validate(document["state"]) for document in found]

    async def record(self, conflict: Conflict) -> Recorded:
        """Put a conflict on record; it takes effect by itself."""
        now = self._clock()
        first_day = datetime.combine(conflict.starts, time(), self._programme.timezone)
        made = Recorded(
            **conflict.model_dump(), id=uuid4().hex, recorded_at=now, sweep_at=max(now, first_day)
        )
        await self._apply(made.id, "conflict.recorded", lambda _: Noted(made))
        await self.board.look()
        return made

    async def end(self, id: str, who: str, why: str) -> Recorded | None:
        """The conflict stands no more from today on. None where there is no such."""
        if await self._conflicts.get(id) is None:
            return None
        yesterday = self._programme.local(self._clock()).date() - timedelta(days=1)

        def ended(state: Recorded | None) -> Noted:
            assert state is not None
            update = {"ends": yesterday, "ended_by": who, "ended_why": why, "sweep_at": None}
            return Noted(state.model_copy(update=update))

        answer = await self._apply(id, "conflict.ended", ended)
        await self.board.look()
        return answer

    async def look(self) -> None:
        """Ask the database what is on record: what follows is about who may read. Raises `Unavailable`."""
        await self.board.look()

    def against(self, case: Case, partner: str) -> bool:
        """Whether this partner may not see the case, by the last look."""
        today = self._programme.local(self._clock()).date()
        return self.board.standing.conflict(partner, case.matter, today) is not None

    async def on_due(self, conflict: Recorded, _: datetime) -> None:
        """Take back what the partner has and may not have."""
        await self.board.look()
        out = {"state.partner.slug": conflict.partner, "state.status": {"$in": list(IN_HAND)}}
        for document in await self._cases.documents(out, AT_MOST):
            case = Case.model_validate(document["state"])
            if conflict.concerns(case.matter):
                await self._withdraw(case, conflict)

        def swept(state: Recorded | None) -> Noted:
            assert state is not None
            again = None if state.last_sweep or state.sweep_at is None else self._clock() + SECOND_SWEEP
            return Noted(state.model_copy(update={"sweep_at": again, "last_sweep": True}))

        await self._apply(conflict.id, "conflict.enforced", swept)

    async def _withdraw(self, case: Case, conflict: Recorded) -> None:
        now = self._clock()
        await self._cases.apply(
            Incoming(f"conflict/{conflict.id}/{case.revision}", "conflict.recorded", case.enquiry_id),
            self.board.deciding(
                lambda state, standing: withdraw_for_conflict(
                    state or case, conflict.partner, self._programme, now, standing
                )
            ),
        )

    async def _apply(self, id: str, kind: str, decide: Callable[[Recorded | None], Noted]) -> Recorded:
        answer = await self._conflicts.apply(Incoming(f"{kind}/{uuid4().hex}", kind, id), decide, id=id)
        assert answer.state is not None
        return answer.state
