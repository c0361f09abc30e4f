"""What each kind of mail is filled with: the facts a template may use, and which template they are for."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.notifications.windows import Applications
from shared.contracts.cloudevents import Person
from shared.contracts.replies import Party
from shared.contracts.triage import Area, MentoringKind, Stream, Theme


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Acknowledgement(Frozen):
    """To the enquirer: we have your enquiry. `opens` says when applications that are closed open again."""

    template: Literal["acknowledgement"] = "acknowledgement"
    received_at: datetime
    applications: Applications = "open"
    opens: datetime | None = None


class CaseForPartner(Frozen):
    """To a partner: the case, whole, and until when and where to answer."""

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
    answer_by: datetime | None = None
    answer_url: str = ""


class CaseTaken(Frozen):
    """To the enquirer: who will help."""

    template: Literal["case-taken"] = "case-taken"
    partner: str


class OfferOver(Frozen):
    """To a partner: a case that is no longer offered to it."""

    template: Literal["offer-over"] = "offer-over"
    partner: str
    how: Literal["expired", "withdrawn"]
    why: str


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


class FollowUpForPartner(Frozen):
    """To the partner who has the case: what the enquirer wrote next. `attachments` are the names of files."""

    template: Literal["follow-up-for-partner"] = "follow-up-for-partner"
    partner: str
    author: Person
    subject: str
    text: str
    attachments: tuple[str, ...] = ()


class FollowUpForOperator(Frozen):
    """To the operators: what somebody wrote about a case that no partner has, or that is not for them."""

    template: Literal["follow-up-for-operator"] = "follow-up-for-operator"
    party: Party
    author: Person
    subject: str
    text: str
    attachments: tuple[str, ...] = ()


class HeldMailForOperator(Frozen):
    """To the operators: a message that waits for them to say what it is."""

    template: Literal["held-mail-for-operator"] = "held-mail-for-operator"
    message: str
    why: str
    candidates: tuple[str, ...] = ()
    author: Person
    subject: str


class BouncedForOperator(Frozen):
    """To the operators: a mail that somebody waits for came back. `kind` is the template of that mail."""

    template: Literal["bounced-for-operator"] = "bounced-for-operator"
    recipient: Person
    kind: str
    why: str


class HeldBackForOperator(Frozen):
    """To the operators, once a day: mail is being held back. `reference` and `why` are of the first."""

    template: Literal["held-back-for-operator"] = "held-back-for-operator"
    reference: str
    why: str
    day: str


Content = Annotated[
    Acknowledgement
    | CaseForPartner
    | CaseTaken
    | OfferOver
    | HeldForOperator
    | SessionInvitation
    | MentoringHeldForOperator
    | FollowUpForPartner
    | FollowUpForOperator
    | HeldMailForOperator
    | BouncedForOperator
    | HeldBackForOperator,
    Field(discriminator="template"),
]

TEMPLATE_VERSIONS = {
    "acknowledgement": 2,
    "case-for-partner": 2,
    "case-taken": 1,
    "offer-over": 1,
    "held-for-operator": 1,
    "session-invitation": 1,
    "mentoring-held-for-operator": 1,
    "follow-up-for-partner": 1,
    "follow-up-for-operator": 1,
    "held-mail-for-operator": 1,
    "bounced-for-operator": 1,
    "held-back-for-operator": 1,
}
"""Raised whenever a template's words change, so that a notification says which words somebody was sent."""
