"""What operators ask of triage and decide there: cases, corrections to learn from, and conflicts of interest.

Every decision names who and why, and the revision of the case it was made on; 409 says that the case has moved on.
"""

from collections.abc import Callable
from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Path, Query
from pydantic import BaseModel, Field

from services.triage.classify.reading import Guess
from services.triage.desk import Desk
from services.triage.domain import Case, NoSuchCase, Outcome, Refused
from services.triage.explaining import explained
from services.triage.offers import Conflict, Standing
from services.triage.programme import Slug
from services.triage.register import Recorded, Register
from services.triage.rulings import (
    By,
    Closing,
    Directions,
    close,
    merge,
    recover,
    reopen,
    route_by_hand,
    set_aside,
)
from shared.contracts.triage import Area, MentoringKind, Stream, Theme
from shared.operators import Guard, answering

Id = Annotated[str, Path(pattern=r"^[0-9a-f-]{8,64}$")]
Status = Literal["routed", "accepted", "held", "waiting", "closed", "merged"]
AT_MOST = 100_000
CORRECTED = ("held", "waiting", "routed", "accepted", "closed", "merged")


class Command(BaseModel):
    """Who decides, why, and on which revision of the case."""

    who: Annotated[str, Field(min_length=1, max_length=100)]
    why: Annotated[str, Field(min_length=3, max_length=1_000)]
    revision: Annotated[int, Field(ge=1)]


class Route(Command):
    """Where the case goes. Without `partner` the best is found."""

    stream: Stream
    areas: tuple[Area, ...] = ()
    pilot_theme: Theme | None = None
    mentoring: MentoringKind | None = None
    partner: Slug | None = None
    language: Annotated[str, Field(max_length=50)] | None = None
    region: Annotated[str, Field(max_length=50)] | None = None


class SetAside(Command):
    disposition: Literal["out-of-scope", "auto"] = "out-of-scope"


class Merge(Command):
    """`into` is the enquiry id of the earlier case."""

    into: Annotated[str, Field(pattern=r"^[0-9a-f-]{8,64}$")]


class Close(Command):
    outcome: Closing


class NewConflict(BaseModel):
    """A conflict of interest: of which partner, with whom (an organisation's name, a mail domain, or both),
    why, recorded by whom, and on which days it stands (from today, for good, unless said)."""

    partner: Slug
    organisation: Annotated[str, Field(max_length=200)] = ""
    domain: Annotated[str, Field(max_length=253)] = ""
    why: Annotated[str, Field(min_length=3, max_length=1_000)]
    who: Annotated[str, Field(min_length=1, max_length=100)]
    starts: date | None = None
    ends: date | None = None


class EndOfConflict(BaseModel):
    who: Annotated[str, Field(min_length=1, max_length=100)]
    why: Annotated[str, Field(min_length=3, max_length=1_000)]


def case_routes(desk: Desk, guard: Guard) -> APIRouter:
    """Cases and corrections, for whoever the guard lets in."""
    router = APIRouter(dependencies=[guard], tags=["operators"])

    @router.get("/cases")
    async def cases(
        status: Status = "held", limit: Annotated[int, Query(ge=1, le=1_000)] = 100
    ) -> list[dict[str, Any]]:
        """Cases of one status, those changed last first."""
        async with answering():
            found = await desk.cases.documents({"state.status": status}, limit)
        return [_line(Case.model_validate(document["state"])) for document in found]

    @router.get("/cases/{id}")
    async def case(id: Id) -> Case:
        """One case whole: the decision and what it rests on, offers, rulings, follow-ups."""
        async with answering():
            found = await desk.cases.get(id)
        if found is None:
            raise HTTPException(404, "there is no such case")
        return found

    @router.get("/cases/{id}/explanation")
    async def explanation(id: Id) -> dict[str, str]:
        """Why the case is where it is, in plain words for people."""
        return {"text": explained(await case(id))}

    @router.get("/corrections")
    async def corrections() -> list[dict[str, Any]]:
        """What operators decided otherwise than triage, as labelled mails for `make train`."""
        query = {"state.status": {"$in": list(CORRECTED)}, "state.correction": {"$type": "object"}}
        async with answering():
            found = await desk.cases.documents(query, AT_MOST)
        kept = (Case.model_validate(document["state"]) for document in found)
        return sorted(
            (_labelled(case) for case in kept if case.disposition != "review"),
            key=lambda each: str(each["id"]),
        )

    return router


def ruling_routes(desk: Desk, guard: Guard) -> APIRouter:
    """What is decided about cases, by whoever the guard lets in."""
    router = APIRouter(dependencies=[guard], tags=["operators"])
    programme = desk.programme

    async def decided(
        id: str, kind: str, command: Command, decide: Callable[[Case, By, Standing], Outcome]
    ) -> dict[str, Any]:
        by = By(command.who, command.why, desk.clock(), command.revision)
        try:
            outcome = await desk.decide(
                id, f"operator.{kind}", lambda case, standing: decide(case, by, standing)
            )
        except NoSuchCase:
            raise HTTPException(404, "there is no such case") from None
        if isinstance(outcome, Refused):
            raise HTTPException(409, outcome.why)
        return _line(outcome.state)

    @router.post("/cases/{id}/route")
    async def route(id: Id, to: Route) -> dict[str, Any]:
        """Offer the case where the operator says; what triage had made of it is corrected, to be learnt."""
        guess = Guess(
            disposition="route",
            stream=to.stream,
            areas=to.areas,
            pilot_theme=to.pilot_theme,
            mentoring=to.mentoring,
        )
        directions = Directions(guess, to.partner, to.language, to.region)
        async with answering():
            return await decided(
                id,
                "route",
                to,
                lambda case, by, standing: route_by_hand(case, directions, by, programme, standing),
            )

    @router.post("/cases/{id}/set-aside")
    async def aside(id: Id, how: SetAside) -> dict[str, Any]:
        """None of the programme's business. It can be recovered."""
        async with answering():
            return await decided(
                id, "set-aside", how, lambda case, by, _: set_aside(case, how.disposition, by)
            )

    @router.post("/cases/{id}/recover")
    async def recovered(id: Id, command: Command) -> dict[str, Any]:
        """What was set aside waits for a decision again."""
        async with answering():
            return await decided(id, "recover", command, lambda case, by, _: recover(case, by))

    @router.post("/cases/{id}/merge")
    async def merged(id: Id, command: Merge) -> dict[str, Any]:
        """The same organisation asked twice: the later case becomes a part of the earlier."""
        async with answering():
            into = await desk.cases.get(command.into)
            if into is None:
                raise HTTPException(404, "there is no such case to merge it into")
            return await decided(id, "merge", command, lambda case, by, _: merge(case, into, by))

    @router.post("/cases/{id}/close")
    async def closed(id: Id, command: Close) -> dict[str, Any]:
        """Nothing more is to be done."""
        async with answering():
            return await decided(id, "close", command, lambda case, by, _: close(case, command.outcome, by))

    @router.post("/cases/{id}/reopen")
    async def reopened(id: Id, command: Command) -> dict[str, Any]:
        """A closed or merged case waits for a decision again."""
        async with answering():
            return await decided(id, "reopen", command, lambda case, by, _: reopen(case, by))

    return router


def conflict_routes(desk: Desk, register: Register, guard: Guard) -> APIRouter:
    """The register of conflicts of interest, for whoever the guard lets in."""
    router = APIRouter(dependencies=[guard], tags=["operators"])
    programme = desk.programme

    @router.get("/conflicts")
    async def conflicts() -> list[Recorded]:
        """Every conflict of interest on record, newest first."""
        async with answering():
            return await register.all()

    @router.post("/conflicts", status_code=201)
    async def record(new: NewConflict) -> Recorded:
        """Put a conflict on record. The partner loses what it had of such cases, and can't read them."""
        if new.partner not in [partner.slug for partner in programme.partners]:
            raise HTTPException(422, "the programme has no such partner")
        if not (new.organisation.strip() or new.domain.strip()):
            raise HTTPException(422, "name an organisation or a domain")
        starts = new.starts or programme.local(desk.clock()).date()
        if new.ends and new.ends < starts:
            raise HTTPException(422, "it ends before it begins")
        conflict = Conflict.model_validate({**new.model_dump(), "starts": starts})
        async with answering():
            return await register.record(conflict)

    @router.post("/conflicts/{id}/end")
    async def ended(id: Id, how: EndOfConflict) -> Recorded:
        """The conflict stands no more. What was taken back stays so."""
        async with answering():
            found = await register.end(id, how.who, how.why)
        if found is None:
            raise HTTPException(404, "there is no such conflict")
        return found

    return router


def _line(case: Case) -> dict[str, Any]:
    """A case in a list."""
    return {
        "id": case.enquiry_id,
        "reference": case.reference,
        "status": case.status,
        "disposition": case.disposition,
        "partner": case.partner.slug if case.partner else None,
        "reason": case.decision.reason,
        "why": case.decision.why,
        "received_at": case.received_at.isoformat(timespec="seconds"),
        "revision": case.revision,
    }


def _labelled(case: Case) -> dict[str, Any]:
    guess = case.correction or case.decision.guess
    return {
        "id": case.enquiry_id,
        "from_name": case.enquirer.name,
        "from_address": case.enquirer.address,
        "subject": case.subject,
        "body": case.text,
        "labels": {
            "disposition": guess.disposition,
            "stream": guess.stream,
            "areas": list(guess.areas),
            "pilot_theme": guess.pilot_theme,
            "mentoring": guess.mentoring,
            "eligibility": case.decision.eligibility,
            "urgency": case.decision.urgency,
        },
    }
