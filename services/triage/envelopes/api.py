"""What operators see of the envelopes, and what they move in them."""

from typing import Annotated, Any, get_args
from uuid import uuid4

from fastapi import APIRouter, HTTPException, Query
from pydantic import Field

from services.triage.domain import Case
from services.triage.domain import Outcome as CaseOutcome
from services.triage.envelopes.domain import (
    Envelope,
    Kind,
    Order,
    Outcome,
    Purses,
    Refused,
    Repeated,
    move,
    movements,
    taken,
)
from services.triage.programme import Programme
from shared.clock import Clock
from shared.contracts.triage import Stream
from shared.operators import Discard, Guard, answering
from shared.store import Aggregates, Already, Incoming

Envelopes = Aggregates[Envelope, Outcome]
EnquiryId = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


class Movement(Discard):
    """Who moves how many pence for which enquiry, and why. Sent again with the same `id` it moves them once."""

    kind: Kind
    enquiry: EnquiryId
    pence: Annotated[int, Field(gt=0, le=10**12)]
    id: Annotated[str, Field(pattern="^[0-9a-f]{32}$", default_factory=lambda: uuid4().hex)]


def envelope_routes(
    envelopes: Envelopes,
    cases: Aggregates[Case, CaseOutcome],
    programme: Programme,
    clock: Clock,
    guard: Guard,
) -> APIRouter:
    """See the envelopes and their movements; reserve, commit, spend and release."""
    router = APIRouter(prefix="/envelopes", dependencies=[guard], tags=["operators"])

    async def now(stream: Stream) -> Envelope:
        return await envelopes.get(stream) or Envelope()

    @router.get("")
    async def every() -> list[dict[str, Any]]:
        """The envelopes, in pence."""
        async with answering():
            return [_shown(stream, await now(stream), programme) for stream in get_args(Stream)]

    @router.get("/{stream}")
    async def one(stream: Stream) -> dict[str, Any]:
        """One envelope, in pence, with what each case has of it."""
        async with answering():
            envelope = await now(stream)
        accounts = [
            {"enquiry": id, "reference": account.reference, "partner": account.partner, **_purses(account)}
            for id, account in envelope.accounts.items()
        ]
        return {**_shown(stream, envelope, programme), "accounts": accounts}

    @router.get("/{stream}/movements")
    async def listed(
        stream: Stream, enquiry: Annotated[str | None, Query(max_length=64)] = None
    ) -> list[dict[str, Any]]:
        """Every movement, or those of one enquiry, in the order in which they happened."""
        async with answering():
            envelope = await now(stream)
        return [
            {
                "number": number,
                "at": at,
                "kind": kind,
                "pence": pence,
                "enquiry": id,
                "reference": envelope.accounts[id].reference,
                "partner": partner,
                "who": who,
                "why": why,
                "id": order,
            }
            for id, (number, at, kind, pence, partner, who, why, order) in movements(envelope)
            if enquiry in (None, id)
        ]

    @router.post("/{stream}/movements")
    async def order(stream: Stream, by: Movement) -> dict[str, Any]:
        """Move money. 404 where there is no such case, 409 with the reason where the money cannot be moved."""
        async with answering():
            case = await cases.get(by.enquiry)
            if case is None:
                raise HTTPException(404, "there is no such case")
            if by.kind == "reserve" and (case.partner is None or case.stream != stream):
                raise HTTPException(409, f"the case is with no partner in the {stream} stream")
            given = Order(
                id=by.id,
                kind=by.kind,
                enquiry_id=by.enquiry,
                reference=case.reference,
                partner=case.partner.slug if case.partner else "",
                pence=by.pence,
                who=by.operator,
                why=by.reason,
                at=clock(),
            )
            outcome = await take(envelopes, stream, given, programme)
        if isinstance(outcome, Refused):
            raise HTTPException(409, outcome.why)
        return {"outcome": type(outcome).__name__, **_shown(stream, outcome.state, programme)}

    return router


async def take(envelopes: Envelopes, stream: Stream, order: Order, programme: Programme) -> Outcome:
    """Carry an order out, once."""
    # The stream stands for the enquiry: an envelope's story is not that of whichever enquiry came first.
    message = Incoming(order.id, f"money.{order.kind}", stream)
    limit = programme.limit(stream)
    answer = await envelopes.apply(message, lambda envelope: move(envelope, order, limit), id=stream)
    if not isinstance(answer, Already):
        return answer
    if taken(answer.state, order):
        return Repeated(answer.state)
    return Refused(
        answer.state, "refused-before", "This order was refused; it needs an id of its own to be tried again."
    )


def _purses(purses: Purses) -> dict[str, int]:
    return {
        "reserved": purses.reserved,
        "committed": purses.committed,
        "spent": purses.spent,
        "matched": purses.matched,
    }


def _shown(stream: Stream, envelope: Envelope, programme: Programme) -> dict[str, Any]:
    limit = programme.limit(stream)
    return {
        "stream": stream,
        "limit": limit,
        "free": limit - envelope.held,
        **_purses(envelope),
        "cases": len(envelope.accounts),
        "movements": envelope.moved,
    }


__all__ = ["Envelopes", "envelope_routes", "take"]
