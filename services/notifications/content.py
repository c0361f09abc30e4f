"""What each kind of mail is filled with: the facts a template may use, and which template they are for."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.contracts.cloudevents import Person
from shared.contracts.triage import Area, MentoringKind, Stream, Theme


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Acknowledgement(Frozen):
    """To the enquirer: we have your enquiry."""

    template: Literal["acknowledgement"] = "acknowledgement"
    received_at: datetime


class CaseForPartner(Frozen):
    """To a partner: the case, whole."""

    template: Literal["case-for-partner"] = "case-for-partner"
    partner: str
    stream: Stream
    areas: tuple[Area, ...] = ()
    theme: Theme | None = None
    mentoring: MentoringKind | None = None
    why: str
    enquirer: Person
    subject: str
    text: str


class HeldForOperator(Frozen):
    """To the operators: a case the rules would not decide."""

    template: Literal["held-for-operator"] = "held-for-operator"
    disposition: Literal["review", "out-of-scope", "auto"]
    reason: str
    why: str
    enquirer: Person
    subject: str


class SessionInvitation(Frozen):
    """To mentor and mentee: when and where they meet. `starts` is wall time in `zone`."""

    template: Literal["session-invitation"] = "session-invitation"
    role: Literal["mentor", "mentee"]
    uid: str
    sequence: int
    mentor: Person
    mentee: Person
    areas: tuple[Area, ...] = ()
    starts: str
    zone: str
    minutes: int
    where: str


class MentoringHeldForOperator(Frozen):
    """To the operators: a mentoring request nobody could be found for."""

    template: Literal["mentoring-held-for-operator"] = "mentoring-held-for-operator"
    kind: MentoringKind
    reason: str
    why: str
    mentee: Person


Content = Annotated[
    Acknowledgement | CaseForPartner | HeldForOperator | SessionInvitation | MentoringHeldForOperator,
    Field(discriminator="template"),
]

TEMPLATE_VERSIONS = {
    "acknowledgement": 1,
    "case-for-partner": 1,
    "held-for-operator": 1,
    "session-invitation": 1,
    "mentoring-held-for-operator": 1,
}
"""Raised whenever a template's words change, so that a notification says which words somebody was sent."""
