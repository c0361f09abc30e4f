"""The HTTP routes every service has: health, metrics, stories and failed messages."""

import asyncio
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Response, params
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field, SecretStr

from shared.messaging.failed import NoSuchQueue, NotOpen
from shared.store.database import Unavailable

if TYPE_CHECKING:
    from shared.service import Service

Name = Annotated[str, Field(min_length=1, max_length=100)]
Id = Annotated[str, Path(pattern=r"^[0-9a-f-]{8,64}$")]
Claim = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9:@#._+-]{0,199}$")]
ANSWER_SECONDS = 10.0

Guard = params.Depends
"""A dependency that ends a request of anybody who may not make it."""


class Replay(BaseModel):
    """Who replays."""

    operator: Name


class Discard(BaseModel):
    """Who discards, and why."""

    operator: Name
    reason: Annotated[str, Field(min_length=3, max_length=1_000)]


@asynccontextmanager
async def answering() -> AsyncIterator[None]:
    """What operators ask is answered in time, or with the reason why not."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            yield
    except NotOpen:
        raise HTTPException(409, "no such failed message is open") from None
    except NoSuchQueue as error:
        raise HTTPException(409, f"no queue {error} takes it any more; discard it") from None
    except (Unavailable, TimeoutError):
        raise HTTPException(503, "the database does not answer; try again") from None


def guard(operator_token: SecretStr) -> Guard:
    """Lets in who has the operators' token."""
    bearer = HTTPBearer()

    def operator(given: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> None:
        if not hmac.compare_digest(given.credentials.encode(), operator_token.get_secret_value().encode()):
            raise HTTPException(403, "this is not the operators' token")

    return Depends(operator)  # type: ignore[no-any-return]


def operator_routes(service: "Service") -> APIRouter:
    """Health and metrics for machines; for operators, with the bearer token, stories and failed messages."""
    router = APIRouter()
    guarded = APIRouter(dependencies=[guard(service.settings.operator_token)], tags=["operators"])

    @router.get("/health/live", tags=["health"])
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"service": service.name}

    @router.get("/health/ready", tags=["health"])
    async def ready(response: Response) -> dict[str, str]:
        """The broker and the database have each just answered a question; 503 if not."""
        found = await service.check()
        if set(found.values()) != {"ok"}:
            response.status_code = 503
        return found

    @router.get("/metrics", tags=["health"])
    async def prometheus() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    @guarded.get("/story/{correlation_id}")
    async def story(correlation_id: Id) -> list[dict[str, Any]]:
        """What this service took and said about one enquiry, oldest first."""
        async with answering():
            lines = [line for kept in service.store.each() for line in await kept.story(correlation_id)]
        return sorted(lines, key=lambda line: line["at"])

    @guarded.get("/claims/{claim}")
    async def claims(claim: Claim) -> dict[str, str]:
        """The enquiry behind something unique, such as its public reference. 404 if this service has none."""
        async with answering():
            for kept in service.store.each():
                if found := await kept.claimed_by(claim):
                    return {"correlation_id": found}
        raise HTTPException(404, "nothing here holds that claim")

    @guarded.get("/failed")
    async def failed(limit: Annotated[int, Query(ge=1, le=1_000)] = 100) -> list[dict[str, Any]]:
        """Messages that could not be handled and wait for an operator, newest first."""
        async with answering():
            messages = await service.failed.open(limit)
        return [
            {
                "id": id,
                **message.model_dump(exclude={"body"}, mode="json"),
                "body": message.body[:20_000].decode("utf-8", "replace"),
            }
            for id, message in messages
        ]

    @guarded.post("/failed/{id}/replay")
    async def replay(id: Id, by: Replay) -> dict[str, str]:
        """Send the message to its queue again. 409 if it is not open, or its queue is gone."""
        async with answering():
            message = await service.failed.replay(id, by.operator)
        return {"status": message.status, "queue": message.queue}

    @guarded.post("/failed/{id}/discard")
    async def discard(id: Id, by: Discard) -> dict[str, str]:
        """Give the message up, with a reason. 409 if it is not open."""
        async with answering():
            message = await service.failed.discard(id, by.operator, by.reason)
        return {"status": message.status, "queue": message.queue}

    router.include_router(guarded)
    return router
