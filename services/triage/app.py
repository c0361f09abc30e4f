"""Triage, put together."""

from fastapi import FastAPI

from services.triage.domain import Case, Outcome, tell
from services.triage.events import announce
from services.triage.handlers import hears
from services.triage.programme import load_programme
from services.triage.settings import TriageSettings
from shared.contracts.triage import CaseFollowedUp, EnquiryHeld, EnquiryRouted, MentoringRequested
from shared.service import Service, run
from shared.store import Aggregates


def app() -> FastAPI:
    settings = TriageSettings()
    service = Service(hears, settings, says=[EnquiryRouted, EnquiryHeld, MentoringRequested, CaseFollowedUp])
    cases: Aggregates[Case, Outcome] = service.store.aggregates("cases", Case, announce, tell=tell)
    programme = load_programme(settings.programme)
    return service.app(provide={"cases": cases, "programme": programme, "clock": service.clock})


if __name__ == "__main__":
    run("services.triage.app:app", TriageSettings)
