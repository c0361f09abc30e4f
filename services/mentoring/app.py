"""Mentoring, put together."""

from fastapi import FastAPI

from services.mentoring.domain import Outcome, Session, claims
from services.mentoring.events import announce
from services.mentoring.handlers import hears
from services.mentoring.mentors import load_mentors
from services.mentoring.openings import Openings
from services.mentoring.settings import MentoringSettings
from shared.contracts.mentoring import MentoringHeld, SessionBooked
from shared.service import Service, run
from shared.store import Aggregates


def app() -> FastAPI:
    settings = MentoringSettings()
    service = Service(hears, settings, says=[SessionBooked, MentoringHeld])
    sessions: Aggregates[Session, Outcome] = service.store.aggregates(
        "sessions", Session, announce, claims=claims, tell=lambda session: session.why
    )
    openings = Openings(load_mentors(settings.mentors))
    return service.app(provide={"sessions": sessions, "openings": openings, "clock": service.clock})


if __name__ == "__main__":
    run("services.mentoring.app:app", MentoringSettings)
