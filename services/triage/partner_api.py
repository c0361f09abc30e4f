"""What partners' own systems ask over HTTP: the cases they have, and their answers to offers.

Each partner has a bearer key of its own and sees its own cases alone; of what it may not see it learns nothing.
"""

import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field, SecretStr

from services.triage.desk import Desk
from services.triage.domain import Case, Outcome, Refused
from services.triage.offers import Offer, Reason
from services.triage.register import Register
from services.triage.standing import IN_HAND
from shared.contracts.cloudevents import Person
from shared.contracts.triage import Area, MentoringKind, Stream, Theme
from shared.operators import answering

OfferId = Annotated[str, Path(pattern=r"^[0-9a-f-]{8,64}-[0-9]{1,4}$")]
Name = Annotated[str, Field(min_length=1, max_length=100)]
AT_MOST = 1_000


class Acceptance(BaseModel):
    """Who accepts, and the working days it is thought to take (the programme's figure if left out)."""

    by: Name
    days: Annotated[float, Field(gt=0, le=250)] | None = None


class Refusal(BaseModel):
    """Who declines, why, and in what words."""

    by: Name
    reason: Reason
    words: Annotated[str, Field(max_length=2_000)] = ""


class PartnersCase(BaseModel):
    """A case as its partner sees it."""

    offer: str
    status: str
    reference: str
    expires_at: datetime
    days: float
    stream: Stream | None
    areas: tuple[Area, ...]
    pilot_theme: Theme | None
    mentoring: MentoringKind | None
    enquirer: Person
    subject: str
    text: str
    received_at: datetime


def partner_routes(desk: Desk, register: Register, keys: Mapping[str, SecretStr]) -> APIRouter:
    """`/partner/...`, for whoever bears a partner's key."""
    bearer = HTTPBearer()

    def partner(given: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> str:
        held = given.credentials.encode()
        # Every key is looked at, so that the time it takes tells nothing.
        found = [
            slug for slug, key in keys.items() if hmac.compare_digest(held, key.get_secret_value().encode())
        ]
        if not found:
            raise HTTPException(403, "this is no partner's key")
        return found[0]

    router = APIRouter(prefix="/partner", tags=["partners"])

    async def theirs(offer_id: str, slug: str) -> tuple[Case, Offer]:
        case = await desk.case_of(offer_id)
        await register.look()
        offer = next((one for one in case.offers if one.id == offer_id), None) if case else None
        if case is None or offer is None or offer.partner != slug or register.against(case, slug):
            raise HTTPException(404, "there is no such offer")
        return case, offer

    async def after(offer_id: str, slug: str, outcome: Outcome) -> dict[str, Any]:
        if isinstance(outcome, Refused):
            raise HTTPException(409, outcome.why)
        _, offer = await theirs(offer_id, slug)
        return {"offer": offer.id, "status": offer.state}

    @router.get("/cases")
    async def cases(slug: Annotated[str, Depends(partner)]) -> list[PartnersCase]:
        """The open offers and accepted cases of this partner, newest first."""
        query = {"state.status": {"$in": list(IN_HAND)}, "state.partner.slug": slug}
        async with answering():
            found = [Case.model_validate(one["state"]) for one in await desk.cases.documents(query, AT_MOST)]
            await register.look()
            return [
                _seen(case, case.offer) for case in found if case.offer and not register.against(case, slug)
            ]

    @router.get("/offers/{offer_id}")
    async def offer(offer_id: OfferId, slug: Annotated[str, Depends(partner)]) -> PartnersCase:
        """One offer and its case, while the partner has it. 404 for anything else."""
        async with answering():
            case, made = await theirs(offer_id, slug)
            if made.state not in ("open", "accepted"):
                raise HTTPException(404, "there is no such offer")
            return _seen(case, made)

    @router.post("/offers/{offer_id}/accept")
    async def accept(
        offer_id: OfferId, slug: Annotated[str, Depends(partner)], answer: Acceptance
    ) -> dict[str, Any]:
        """Take the case. Again is harmless; 409 if the offer has ended."""
        async with answering():
            await theirs(offer_id, slug)
            return await after(offer_id, slug, await desk.accept(offer_id, slug, answer.by, answer.days))

    @router.post("/offers/{offer_id}/decline")
    async def decline(
        offer_id: OfferId, slug: Annotated[str, Depends(partner)], answer: Refusal
    ) -> dict[str, Any]:
        """Do not take the case: it goes to another. Again is harmless; 409 if the offer has ended."""
        async with answering():
            await theirs(offer_id, slug)
            outcome = await desk.decline(offer_id, slug, answer.by, answer.reason, answer.words)
            return await after(offer_id, slug, outcome)

    return router


def _seen(case: Case, offer: Offer) -> PartnersCase:
    return PartnersCase(
        offer=offer.id,
        status=offer.state,
        reference=case.reference,
        expires_at=offer.expires_at,
        days=offer.days,
        stream=case.stream,
        areas=case.areas,
        pilot_theme=case.pilot_theme,
        mentoring=case.mentoring,
        enquirer=case.enquirer,
        subject=case.subject,
        text=case.text,
        received_at=case.received_at,
    )
