"""Envelopes: what may be done with a stream's money, and what has been. Pure.

Money is in whole pence. An envelope is one aggregate, so its limit holds however many orders race for the last
pounds: each is decided on the envelope as the one before it left it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from shared.contracts.triage import CaseAccepted

Kind = Literal["reserve", "commit", "spend", "release", "cancel", "refund", "match", "unmatch"]
Refusal = Literal[
    "no-amount", "above-limit", "not-that-much", "another-partner", "no-account", "refused-before"
]
Purse = Literal["reserved", "committed", "spent", "matched"]

MOVES: dict[Kind, tuple[Purse | None, Purse | None]] = {
    "reserve": (None, "reserved"),
    "commit": ("reserved", "committed"),
    "spend": ("committed", "spent"),
    "release": ("reserved", None),
    "cancel": ("committed", None),
    "refund": ("spent", None),
    "match": (None, "matched"),
    "unmatch": ("matched", None),
}
"""From where to where each kind of movement takes money; None is what the envelope has free, or, for matched
funding, the applicant's own pocket: matched funding is recorded beside and counts against no limit."""

Movement = tuple[int, datetime, Kind, int, str, str, str, str]
"""Number in the envelope from 1, when, kind, pence, partner, who, why, and the id of the order. A tuple and not a
model: an envelope holds thousands, and is read and written whole."""


class Purses(BaseModel):
    """Pence in each state."""

    model_config = ConfigDict(frozen=True)

    reserved: int = 0
    committed: int = 0
    spent: int = 0
    matched: int = 0

    @property
    def held(self) -> int:
        """What counts against the limit."""
        return self.reserved + self.committed + self.spent


class Account(Purses):
    """The money of one case. `partner` is whom it was last reserved for."""

    reference: str
    partner: str
    movements: tuple[Movement, ...] = ()


class Envelope(Purses):
    """A stream's money. `moved` counts its movements; `accounts` are by enquiry id."""

    moved: int = 0
    accounts: dict[str, Account] = {}


@dataclass(frozen=True, slots=True)
class Order:
    """Somebody's order to move money. The same `id` moves it once. `partner` may be empty where the case has an
    account already."""

    id: str
    kind: Kind
    enquiry_id: str
    reference: str
    partner: str
    pence: int
    who: str
    why: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Reserved:
    state: Envelope


@dataclass(frozen=True, slots=True)
class Committed:
    state: Envelope


@dataclass(frozen=True, slots=True)
class Spent:
    state: Envelope


@dataclass(frozen=True, slots=True)
class Released:
    """Money that was reserved, committed or spent is free again."""

    state: Envelope


@dataclass(frozen=True, slots=True)
class Matched:
    """What the applicant puts in has been recorded, or taken back."""

    state: Envelope


@dataclass(frozen=True, slots=True)
class Repeated:
    """This order has moved its money before."""

    state: Envelope


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing has moved. `reason` is a stable code, `why` a sentence."""

    state: Envelope
    reason: Refusal
    why: str


Moved = Reserved | Committed | Spent | Released | Matched
Outcome = Moved | Repeated | Refused

_OUTCOMES: dict[Kind, type[Moved]] = {
    "reserve": Reserved,
    "commit": Committed,
    "spend": Spent,
    "release": Released,
    "cancel": Released,
    "refund": Released,
    "match": Matched,
    "unmatch": Matched,
}


def move(envelope: Envelope | None, order: Order, limit: int) -> Outcome:
    """What becomes of an order. `limit`, in pence, is the programme's word at this time: where it has been
    lowered below what is held, nothing more is reserved until enough has been released."""
    envelope = envelope or Envelope()
    account = envelope.accounts.get(order.enquiry_id)
    if taken(envelope, order):
        return Repeated(envelope)
    if refusal := _refusal(envelope, account, order, limit):
        return Refused(envelope, *refusal)
    account = account or Account(reference=order.reference, partner=order.partner)
    source, target = MOVES[order.kind]
    partner = order.partner if order.kind == "reserve" else account.partner
    movement: Movement = (
        envelope.moved + 1,
        order.at,
        order.kind,
        order.pence,
        partner,
        order.who,
        order.why,
        order.id,
    )
    changed = {
        **_moved(account, source, target, order.pence),
        "partner": partner,
        "movements": (*account.movements, movement),
    }
    return _OUTCOMES[order.kind](
        # Copies, and no validation: the envelope holds every movement there ever was.
        envelope.model_copy(
            update={
                **_moved(envelope, source, target, order.pence),
                "moved": envelope.moved + 1,
                "accounts": {**envelope.accounts, order.enquiry_id: account.model_copy(update=changed)},
            }
        )
    )


def reservation(event: CaseAccepted, partner: str, pence: int, now: datetime) -> Order:
    """The order that follows from a partner's acceptance."""
    said = event.data
    return Order(
        id=event.id,
        kind="reserve",
        enquiry_id=event.correlationid,
        reference=said.reference,
        partner=partner,
        pence=pence,
        who=said.by,
        why=f"accepted, for {said.days:g} working days",
        at=now,
    )


def taken(envelope: Envelope, order: Order) -> bool:
    """Whether the order has moved its money."""
    account = envelope.accounts.get(order.enquiry_id)
    return account is not None and any(movement[-1] == order.id for movement in account.movements)


def movements(envelope: Envelope) -> Iterator[tuple[str, Movement]]:
    """Every movement with the enquiry it was for, in the order in which they happened."""
    every = [(id, movement) for id, account in envelope.accounts.items() for movement in account.movements]
    return iter(sorted(every, key=lambda each: each[1][0]))


def pounds(pence: int) -> str:
    """£1,234.05"""
    return f"{'-' if pence < 0 else ''}£{abs(pence) // 100:,}.{abs(pence) % 100:02}"


def _refusal(
    envelope: Envelope, account: Account | None, order: Order, limit: int
) -> tuple[Refusal, str] | None:
    if order.pence <= 0:
        return "no-amount", "An amount is a positive number of pence."
    if order.kind == "reserve":
        return _no_reservation(envelope, account, order, limit)
    if account is None:
        return "no-account", "Nothing has been reserved for this case in this envelope."
    source = MOVES[order.kind][0]
    if source and (there := _in(account, source)) < order.pence:
        return "not-that-much", f"The case has {pounds(there)} {source}, not {pounds(order.pence)}."
    return None


def _no_reservation(
    envelope: Envelope, account: Account | None, order: Order, limit: int
) -> tuple[Refusal, str] | None:
    held = account.reserved + account.committed if account else 0
    if account and held and order.partner != account.partner:
        return (
            "another-partner",
            f"{pounds(held)} are held for {account.partner}; release or cancel that first.",
        )
    if (free := limit - envelope.held) < order.pence:
        return (
            "above-limit",
            f"{pounds(order.pence)} cannot be reserved: {pounds(max(free, 0))} of {pounds(limit)} are free.",
        )
    return None


def _in(purses: Purses, purse: Purse) -> int:
    amount: int = getattr(purses, purse)
    return amount


def _moved(purses: Purses, source: Purse | None, target: Purse | None, pence: int) -> dict[str, object]:
    changed: dict[str, object] = {}
    if source:
        changed[source] = _in(purses, source) - pence
    if target:
        changed[target] = _in(purses, target) + pence
    return changed
