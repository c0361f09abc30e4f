"""What operators ask of intake over HTTP, beside what every service answers."""

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path
from pydantic import BaseModel, Field

from services.intake.keys import ApiKey, Keys, NameTaken, NoSuchKey
from shared.operators import Guard, answering

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
