"""Triage, put together."""

from functools import partial

from fastapi import FastAPI

from services.triage.answer_pages import answer_pages
from services.triage.desk import TIMER_LEASE, Desk
from services.triage.domain import Case, Outcome, due, tell
from services.triage.envelopes.api import Envelopes, envelope_routes
from services.triage.envelopes.domain import Envelope
from services.triage.events import announce
from services.triage.handlers import hears
from services.triage.links import Links
from services.triage.operator_api import case_routes, conflict_routes, ruling_routes
from services.triage.partner_api import partner_routes
from services.triage.programme import load_programme
from services.triage.register import SWEEP_LEASE, Noted, Recorded, Register, say_nothing, sweep_due
from services.triage.settings import TriageSettings
from shared.contracts.triage import (
    CaseAccepted,
    CaseFollowedUp,
    EnquiryHeld,
    EnquiryRouted,
    MentoringRequested,
    OfferEnded,
)
from shared.operators import guard
from shared.service import Service, run
from shared.store import Aggregates


def app() -> FastAPI:
    settings = TriageSettings()
    service = Service(
        hears,
        settings,
        says=[EnquiryRouted, EnquiryHeld, CaseAccepted, OfferEnded, MentoringRequested, CaseFollowedUp],
    )
    links = Links([key.get_secret_value() for key in settings.link_keys], settings.public_url)
    cases: Aggregates[Case, Outcome] = service.store.aggregates(
        "cases",
        Case,
        partial(announce, answer_url=links.url),
        due=due,
        tell=tell,
        listed_by="state.status",
    )
    conflicts: Aggregates[Recorded, Noted] = service.store.aggregates(
        "conflicts", Recorded, say_nothing, due=sweep_due
    )
    programme = load_programme(settings.programme)
    # In memory: thousands of movements need not be read again for each that is added.
    envelopes: Envelopes = service.store.aggregates("envelopes", Envelope, lambda *_: [], remember=2)
    register = Register(conflicts, cases, programme, service.clock)
    operators = guard(settings.operator_token)
    desk = Desk(cases, programme, service.clock, register.board)
    service.store.on_due("cases", desk.on_due, TIMER_LEASE)
    service.store.on_due("conflicts", register.on_due, SWEEP_LEASE)
    return service.app(
        provide={"desk": desk, "envelopes": envelopes},
        routes=[
            answer_pages(desk, register, links),
            partner_routes(desk, register, settings.partner_keys),
            case_routes(desk, operators),
            ruling_routes(desk, operators),
            conflict_routes(desk, register, operators),
            envelope_routes(envelopes, cases, programme, service.clock, operators),
        ],
        running=[register.board],
    )


if __name__ == "__main__":
    run("services.triage.app:app", TriageSettings)
