"""What mentoring says: a session has been booked, or a request waits for an operator."""

from typing import Annotated, Literal

from pydantic import Field

from shared.contracts.cloudevents import CloudEvent, Contract, Person, Reference
from shared.contracts.triage import Area, MentoringKind

LocalTime = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}$")]


class BookedSession(Contract):
    """A one-to-one session. Future times are wall time plus zone (iCalendar DTSTART with TZID): the law may
    move the clocks before then. `uid` and `sequence` are iCalendar's UID and SEQUENCE (RFC 5545)."""

    reference: Reference
    uid: str
    sequence: Annotated[int, Field(ge=0)] = 0
    mentor: Person
    mentee: Person
    areas: tuple[Area, ...] = ()
    starts: LocalTime
    zone: str
    minutes: Annotated[int, Field(gt=0, le=480)]
    where: str


class SessionBooked(CloudEvent):
    source: Literal["/mentoring"] = "/mentoring"
    type: Literal["session.booked.v1"] = "session.booked.v1"
    data: BookedSession


class HeldMentoring(Contract):
    """A mentoring request nobody could be found for. `why` is the sentence an operator reads."""

    reference: Reference
    kind: MentoringKind
    reason: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    why: str
    mentee: Person


class MentoringHeld(CloudEvent):
    source: Literal["/mentoring"] = "/mentoring"
    type: Literal["mentoring.held.v1"] = "mentoring.held.v1"
    data: HeldMentoring
