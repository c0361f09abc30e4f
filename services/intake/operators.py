"""What operators ask of intake over HTTP, beside what every service answers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query
from pydantic import BaseModel, Field

from services.intake import reference
from services.intake.domain import Message, NotHeld, NotKept
from services.intake.held import HeldMessages, NoSuchEnquiry
from services.intake.keys import ApiKey, Keys, NameTaken, NoSuchKey
from services.intake.rereading import Rereading
from shared.contracts.replies import Party
from shared.operators import Discard, Guard, Name, answering

NAME = r"^[a-z0-9][a-z0-9._-]{0,62}$"


class NewKey(BaseModel):
    """The name of a client, and the SHA-256 of its key in hexadecimal: the key itself is not sent."""

    name: Annotated[str, Field(pattern=NAME)]
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def key_routes(keys: Keys, guard: Guard) -> APIRouter:
    """Make, list and revoke API keys."""
    router = APIRouter(prefix="/keys", dependencies=[guard], tags=["operators"])

    @router.get("")
    async def listed() -> list[dict[str, Any]]:
        """Every key there ever was, newest first."""
        async with answering():
            return [_shown(key) for key in await keys.all()]

    @router.post("", status_code=201)
    async def create(new: NewKey) -> dict[str, Any]:
        """Let a client in from now on. The same again changes nothing; 409 where the name is another key's."""
        async with answering():
            try:
                return _shown(await keys.create(new.name, new.digest))
            except NameTaken:
                raise HTTPException(409, "another key has this name; revoke that one first") from None

    @router.post("/{name}/revoke")
    async def revoke(name: Annotated[str, Path(pattern=NAME)]) -> dict[str, Any]:
        """Refuse this key from now on. 404 where no active key has the name."""
        async with answering():
            try:
                return _shown(await keys.revoke(name))
            except NoSuchKey:
                raise HTTPException(404, "no active key has this name") from None

    return router


def _shown(key: ApiKey) -> dict[str, Any]:
    return key.model_dump(mode="json", exclude={"digest"})


Id = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
SHOWN = 2_000


class Join(Discard):
    """Who adds it to which enquiry, and why; and the part its writer plays there."""

    reference: Annotated[str, Field(max_length=40)]
    party: Party = "enquirer"


class Begin(Discard):
    """Who lets it begin an enquiry, and why."""


@asynccontextmanager
async def _deciding() -> AsyncIterator[None]:
    async with answering():
        try:
            yield
        except NotHeld:
            raise HTTPException(409, "no such message is held") from None
        except NoSuchEnquiry as error:
            raise HTTPException(409, f"no enquiry has the reference {error}") from None


def held_routes(held: HeldMessages, guard: Guard) -> APIRouter:
    """Messages that wait for an operator, and what may be decided about them."""
    router = APIRouter(prefix="/held", dependencies=[guard], tags=["operators"])

    @router.get("")
    async def listed(limit: Annotated[int, Query(ge=1, le=1_000)] = 100) -> list[dict[str, Any]]:
        """Those that wait, newest first, with the beginning of their text."""
        async with answering():
            return [_waiting(message) for message in await held.open(limit)]

    @router.post("/{id}/join")
    async def join(id: Id, by: Join) -> dict[str, str]:
        """Add it to an enquiry. 409 if it does not wait, or there is no such enquiry."""
        async with _deciding():
            typed = reference.parse(by.reference) or by.reference
            return _decided(await held.join(id, typed, by.party, by.operator, by.reason))

    @router.post("/{id}/begin")
    async def begin(id: Id, by: Begin) -> dict[str, str]:
        """Let it begin an enquiry. 409 if it does not wait."""
        async with _deciding():
            return _decided(await held.begin(id, by.operator, by.reason))

    @router.post("/{id}/discard")
    async def discard(id: Id, by: Discard) -> dict[str, str]:
        """Make nothing of it, for a reason. It is kept. 409 if it does not wait."""
        async with _deciding():
            return _decided(await held.discard(id, by.operator, by.reason))

    return router


def _waiting(message: Message) -> dict[str, Any]:
    return {
        "id": message.id,
        "reason": message.held,
        "candidates": [proposal.reference for proposal in message.proposals],
        "from": message.author or message.sender.address,
        "subject": message.subject,
        "accepted_at": message.accepted_at.isoformat(),
        "parse_error": message.parse_error,
        "text": (message.new_text or message.text)[:SHOWN],
    }


def _decided(message: Message) -> dict[str, str]:
    return {"outcome": message.outcome, "reference": message.reference, "enquiry": message.belongs_to}


class Reparse(BaseModel):
    """Who reads it again, and whether the change is to be kept."""

    operator: Name
    apply: bool = False


def message_routes(rereading: Rereading, guard: Guard) -> APIRouter:
    """Messages, and reading them again."""
    router = APIRouter(prefix="/messages", dependencies=[guard], tags=["operators"])

    @router.get("")
    async def listed(
        held: bool = False,
        enquiry: Annotated[str, Query(pattern="^([0-9a-f]{32})?$")] = "",
        after: Annotated[str, Query(max_length=64)] = "",
        limit: Annotated[int, Query(ge=1, le=1_000)] = 500,
    ) -> list[str]:
        """Ids of messages that were read, in their order: of all, of an enquiry, or of those that wait."""
        async with answering():
            return await rereading.ids(held=held, enquiry=enquiry, after=after, limit=limit)

    @router.post("/{id}/reparse")
    async def reparse(id: Id, by: Reparse) -> dict[str, Any]:
        """Read it again: what differs from what is kept. A held one is then decided about again."""
        async with answering():
            try:
                differences = await rereading(id, by.operator, apply=by.apply)
            except NotKept:
                raise HTTPException(404, "no such message was read") from None
        return {
            "id": id,
            "applied": by.apply and bool(differences),
            "differences": [
                {"field": each.field, "kept": _short(each.kept), "read": _short(each.read)}
                for each in differences
            ],
        }

    return router


def _short(value: Any) -> str:
    return str(value)[:SHOWN]
