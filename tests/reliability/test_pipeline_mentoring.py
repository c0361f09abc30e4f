"""Many people ask for a mentor at the same time: the stored diaries show who meets whom."""

import asyncio
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import aio_pika

from services.intake.reference import reference_for
from shared.contracts.cloudevents import Person
from shared.contracts.triage import MentoringRequested, RequestedMentoring
from shared.store import Cause
from tests.conftest import eventually
from tests.reliability.pipeline_run import PROGRAMME_TIME, Run, everything_exactly_once

REQUESTS = 60


def request(n: int) -> MentoringRequested:
    enquiry = uuid4().hex
    data = RequestedMentoring(
        reference=reference_for(enquiry, 0),
        kind="one-to-one",
        mentee=Person(address=f"mentee{n}@load.example"),
    )
    return Cause(enquiry, enquiry, enquiry, PROGRAMME_TIME, PROGRAMME_TIME).event(MentoringRequested, data)


async def ask_all_at_once(run: Run, requests: list[MentoringRequested]) -> None:
    async with run.broker() as channel:
        exchange = await channel.get_exchange("triage")
        await asyncio.gather(
            *(
                exchange.publish(
                    aio_pika.Message(
                        event.model_dump_json(exclude_none=True).encode(),
                        message_id=event.id,
                        correlation_id=event.correlationid,
                        type=event.type,
                        content_type="application/cloudevents+json",
                        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                    ),
                    event.type,
                )
                for event in requests
            )
        )


async def all_answered(run: Run, requests: list[MentoringRequested]) -> None:
    """Wait until they are; then look at everybody's diary."""
    asked = {event.correlationid: event.data.reference for event in requests}
    run.not_by_mail |= set(asked.values())
    left: dict[str, object] = {}

    def look() -> None:
        left["unanswered"] = len(asked) - run.count("mentoring", "sessions", {"_id": {"$in": list(asked)}})
        left["mails waiting"] = run.count("notifications", "notifications", {"state.status": "queued"})
        left["outboxes"] = run.unpublished()

    async def nothing_left() -> bool:
        await asyncio.to_thread(look)  # the mail server is in this loop, and must not be kept from answering
        left["queues"] = await run.depths()
        return not any(left.values())

    try:
        await eventually(nothing_left, 60)
    except AssertionError:
        raise AssertionError(f"{left}\n{run.log_of()}") from None
    assert not run.failed_messages()
    sessions = run.documents("mentoring", "sessions")
    claims = [claim for document in sessions for claim in document.get("claims", [])]
    assert len(claims) == len(set(claims)) > 0
    nobody_is_at_two_places([document["state"] for document in sessions])

    answers = {document["_id"]: document["state"] for document in sessions if document["_id"] in asked}
    assert {answer["status"] for answer in answers.values()} == {"booked"}, answers
    invited = Counter((mail.reference, mail.recipient) for mail in run.sink.arrivals)
    for enquiry, reference in asked.items():
        meeting, request = answers[enquiry]["meeting"], answers[enquiry]["request"]
        for person in (meeting["mentor"], request["mentee"]):
            assert invited[reference, person["address"]] == 1, f"{reference}: {person['address']}"


def nobody_is_at_two_places(sessions: list[dict[str, Any]]) -> None:
    """By the times themselves, without trusting the claims."""
    diaries: dict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
    for session in sessions:
        if session["status"] == "booked":
            starts = datetime.fromisoformat(session["meeting"]["starts"])
            times = (starts, starts + timedelta(minutes=session["meeting"]["minutes"]))
            diaries[session["meeting"]["mentor"]["address"]].append(times)
            diaries[session["request"]["mentee"]["address"]].append(times)
    for person, booked in diaries.items():
        for (_, ends), (starts, _) in pairwise(sorted(booked)):
            assert starts >= ends, f"{person} is to be at two places on {starts}"


async def test_sixty_requests_at_once_book_no_mentor_twice_with_one_process_or_two(run: Run) -> None:
    first = [request(n) for n in range(REQUESTS)]
    await ask_all_at_once(run, first)
    await all_answered(run, first)

    async with run.replica("mentoring") as replica:
        second = [request(n) for n in range(REQUESTS, 2 * REQUESTS)]
        await ask_all_at_once(run, second)
        await all_answered(run, second)
        for process in (replica, run.service("mentoring")):
            assert await run.decisions(process) > 0, f"{process.name} on port {process.port} did nothing"
    await everything_exactly_once(run)
