"""What mentoring says about its decisions; the only place that builds its events."""

from typing import assert_never

from services.mentoring.domain import Booked, Held, Outcome, Registered, Unchanged
from shared.contracts.cloudevents import CloudEvent
from shared.contracts.mentoring import BookedSession, HeldMentoring, MentoringHeld, SessionBooked
from shared.store.cause import Cause


def announce(outcome: Outcome, cause: Cause) -> list[CloudEvent]:
    """The events an outcome leads to; none for what changes nothing for anybody yet."""
    match outcome:
        case Booked(state=session, meeting=meeting):
            booked = BookedSession(
                reference=session.request.reference,
                uid=meeting.uid,
                sequence=meeting.sequence,
                mentor=meeting.mentor,
                mentee=session.request.mentee,
                areas=session.request.areas,
                starts=meeting.starts,
                zone=meeting.zone,
                minutes=meeting.minutes,
                where=meeting.where,
            )
            return [cause.event(SessionBooked, booked)]
        case Held(state=session):
            held = HeldMentoring(
                reference=session.request.reference,
                kind=session.request.kind,
                reason=session.reason,
                why=session.why,
                mentee=session.request.mentee,
            )
            return [cause.event(MentoringHeld, held)]
        case Registered() | Unchanged():
            return []
        case _:
            assert_never(outcome)
