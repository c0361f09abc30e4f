"""What triage says: where an enquiry went and what the partner made of it, or why it waits for an operator; who
asked for a mentor; and where further mail about a case belongs."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from shared.contracts.cloudevents import CloudEvent, Contract, EmailAddress, Identifier, Person, Reference
from shared.contracts.intake import AttachedFile, Text
from shared.contracts.replies import Party

Stream = Literal["advice", "pilot"]
Area = Literal["legal", "financial", "marketing", "human-resources", "business-planning"]
Theme = Literal["partnership-working", "service-broadening"]
MentoringKind = Literal["one-to-one", "peer-network"]
Disposition = Literal["route", "review", "out-of-scope", "auto"]


class Partner(Contract):
    """A delivery partner, as the one who receives a case."""

    slug: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    name: str
    address: EmailAddress


class ToPartner(CloudEvent):
    """An event that concerns one partner: it reaches that partner's own queue as well."""

    @classmethod
    def binding_key(cls) -> str:
        return f"{cls.event_type()}.#"

    @property
    def routing_key(self) -> str:
        return f"{self.type}.{self.data.partner.slug}"


class OfferMade(Contract):
    """The offer of a case: its partner may answer until `expires_at`, at `answer_url` for one."""

    id: Identifier
    number: Annotated[int, Field(ge=1)]
    expires_at: AwareDatetime
    answer_url: str = ""


class RoutedEnquiry(Contract):
    """A case and the partner it is offered to. `areas` are ordered, main need first; `why` is one sentence."""

    reference: Reference
    stream: Stream
    areas: tuple[Area, ...] = ()
    pilot_theme: Theme | None = None
    mentoring: MentoringKind | None = None
    partner: Partner
    why: str
    enquirer: Person
    subject: str
    text: Text
    message_id: str = ""
    suppress_reply: bool = False
    offer: OfferMade | None = None


class EnquiryRouted(ToPartner):
    source: Literal["/triage"] = "/triage"
    type: Literal["enquiry.routed.v1"] = "enquiry.routed.v1"
    data: RoutedEnquiry


class AcceptedCase(Contract):
    """A partner has taken a case; `by` is the person there, `days` the working days it is thought to need.
    `message_id` and `suppress_reply` are those of the enquiry."""

    reference: Reference
    partner: Partner
    by: str
    days: Annotated[float, Field(ge=0)]
    enquirer: Person
    message_id: str = ""
    suppress_reply: bool = False


class CaseAccepted(ToPartner):
    source: Literal["/triage"] = "/triage"
    type: Literal["case.accepted.v1"] = "case.accepted.v1"
    data: AcceptedCase


class EndedOffer(Contract):
    """A partner has a case no more, by no answer of its own; `why` is a sentence for it."""

    reference: Reference
    partner: Partner
    number: Annotated[int, Field(ge=1)]
    how: Literal["expired", "withdrawn"]
    why: str


class OfferEnded(ToPartner):
    source: Literal["/triage"] = "/triage"
    type: Literal["offer.ended.v1"] = "offer.ended.v1"
    data: EndedOffer


class HeldEnquiry(Contract):
    """A case that waits for an operator. `reason` is a stable code, `why` the sentence an operator reads."""

    reference: Reference
    disposition: Literal["review", "out-of-scope", "auto"]
    reason: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    why: str
    enquirer: Person
    subject: str


class EnquiryHeld(CloudEvent):
    source: Literal["/triage"] = "/triage"
    type: Literal["enquiry.held.v1"] = "enquiry.held.v1"
    data: HeldEnquiry


class RequestedMentoring(Contract):
    """Somebody asked for a mentor or for the peer network."""

    reference: Reference
    kind: MentoringKind
    areas: tuple[Area, ...] = ()
    mentee: Person


class MentoringRequested(CloudEvent):
    source: Literal["/triage"] = "/triage"
    type: Literal["mentoring.requested.v1"] = "mentoring.requested.v1"
    data: RequestedMentoring


class FollowedUpCase(Contract):
    """A further message about a case. `partner` is who has the case; None where nobody has, or where the message
    is not for them."""

    reference: Reference
    party: Party
    author: Person
    subject: str
    text: Text
    attachments: tuple[AttachedFile, ...] = ()
    partner: Partner | None = None


class CaseFollowedUp(CloudEvent):
    source: Literal["/triage"] = "/triage"
    type: Literal["case.followed-up.v1"] = "case.followed-up.v1"
    data: FollowedUpCase
