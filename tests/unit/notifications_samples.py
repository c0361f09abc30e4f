"""Events as the other services say them, for the tests of what notifications makes of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from services.notifications.domain import Letterhead, Notification, create
from services.notifications.plan import plan
from shared.contracts.cloudevents import CloudEvent, Person
from shared.contracts.intake import (
    AutoRepliedMail,
    BouncedMail,
    EnquiryReceived,
    FailedDelivery,
    HeldMail,
    MailAutoReplied,
    MailBounced,
    MailHeld,
    ReceivedEnquiry,
)
from shared.contracts.mentoring import BookedSession, HeldMentoring, MentoringHeld, SessionBooked
from shared.contracts.replies import Replies
from shared.contracts.triage import (
    AcceptedCase,
    CaseAccepted,
    CaseFollowedUp,
    EndedOffer,
    EnquiryHeld,
    EnquiryRouted,
    FollowedUpCase,
    HeldEnquiry,
    OfferEnded,
    OfferMade,
    Partner,
    RoutedEnquiry,
)

NOW = datetime(2018, 9, 1, 9, 0, tzinfo=UTC)
LEASE = timedelta(minutes=2)
REFERENCE = "MSP-7F3K-2Q"
ENQUIRY = "0123456789abcdef0123456789abcdef"
LETTERHEAD = Letterhead(
    programme="Mutuals Support Programme",
    sender=Person(name="Mutuals Support Programme", address="enquiries@msp.example"),
    operators=Person(name="Operators", address="operators@msp.example"),
    replies=Replies(["key"]),
)
BEVAN_BRITTAN = Partner(slug="bevan-brittan", name="Bevan Brittan", address="cases@bevan-brittan.example")
ENQUIRER = Person(name="Rukhsana Beg", address="r.beg@turningcorner.example")


def _envelope(event_id: str) -> dict[str, Any]:
    return {
        "id": event_id,
        "subject": REFERENCE,
        "time": NOW,
        "correlationid": ENQUIRY,
        "causationid": "cause",
    }


def received(event_id: str = "event-1", **changes: Any) -> EnquiryReceived:
    data: dict[str, Any] = {
        "reference": REFERENCE,
        "sender": ENQUIRER,
        "subject": "Parent company guarantee",
        "text": "Hello there,\n\nThey want a guarantee from a parent company.",
        "message_id": "<1234@mail.turningcorner.example>",
        "accepted_at": NOW,
        "via": "smtp",
    }
    return EnquiryReceived(data=ReceivedEnquiry(**(data | changes)), **_envelope(event_id))


def routed(event_id: str = "event-2", **changes: Any) -> EnquiryRouted:
    data: dict[str, Any] = {
        "reference": REFERENCE,
        "stream": "advice",
        "areas": ("legal", "financial"),
        "partner": BEVAN_BRITTAN,
        "why": "First choice for legal advice.",
        "enquirer": ENQUIRER,
        "subject": "Parent company guarantee",
        "text": "Hello there,\n\nThey want a guarantee from a <b>parent</b> company.",
        "message_id": "<1234@mail.turningcorner.example>",
        "offer": OfferMade(
            id=f"{ENQUIRY}-1",
            number=1,
            expires_at=NOW + timedelta(days=4),
            answer_url="https://triage.msp.example/offers/0123~bevan-brittan.signature",
        ),
    }
    return EnquiryRouted(data=RoutedEnquiry(**(data | changes)), **_envelope(event_id))


def held(event_id: str = "event-3", **changes: Any) -> EnquiryHeld:
    data: dict[str, Any] = {
        "reference": REFERENCE,
        "disposition": "review",
        "reason": "no-area",
        "why": "Nothing in it says which help is needed.",
        "enquirer": ENQUIRER,
        "subject": "Hello",
    }
    return EnquiryHeld(data=HeldEnquiry(**(data | changes)), **_envelope(event_id))


def booked(event_id: str = "event-4", **changes: Any) -> SessionBooked:
    data: dict[str, Any] = {
        "reference": REFERENCE,
        "uid": "session-1@msp.example",
        "mentor": Person(name="Moira Kerr", address="moira@mentors.example"),
        "mentee": ENQUIRER,
        "areas": ("legal",),
        "starts": "2018-09-25T10:00",
        "zone": "Europe/London",
        "minutes": 60,
        "where": "By telephone: 020 7946 0000",
    }
    return SessionBooked(data=BookedSession(**(data | changes)), **_envelope(event_id))


def mentoring_held(event_id: str = "event-5") -> MentoringHeld:
    data = HeldMentoring(
        reference=REFERENCE,
        kind="one-to-one",
        reason="no-mentor",
        why="No mentor for marketing has time.",
        mentee=ENQUIRER,
    )
    return MentoringHeld(data=data, **_envelope(event_id))


BEVAN_BRITTAN = Partner(slug="bevan-brittan", name="Bevan Brittan", address="cases@bevan-brittan.example")


def followed_up(event_id: str = "event-6", **changes: Any) -> CaseFollowedUp:
    data: dict[str, Any] = {
        "reference": REFERENCE,
        "party": "enquirer",
        "author": ENQUIRER,
        "subject": "Re: We have received your enquiry",
        "text": "The board meets <b>on Friday</b>.",
        "partner": BEVAN_BRITTAN,
    }
    return CaseFollowedUp(data=FollowedUpCase(**(data | changes)), **_envelope(event_id))


def mail_held(event_id: str = "event-7", **changes: Any) -> MailHeld:
    data: dict[str, Any] = {
        "message": "f" * 32,
        "reason": "not-a-correspondent",
        "why": "Its writer is no part of the enquiry.",
        "candidates": (REFERENCE,),
        "author": Person(name="", address="stranger@elsewhere.example"),
        "subject": "MSP-7F3K-2Q",
        "accepted_at": NOW,
    }
    return MailHeld(data=HeldMail(**(data | changes)), **_envelope(event_id))


def bounced(event_id: str = "event-8", **changes: Any) -> MailBounced:
    failed = FailedDelivery(
        address="cases@bevan-brittan.example", permanent=True, status="5.1.1", diagnostic="No such user"
    )
    data: dict[str, Any] = {"failed": (failed,), "evidence": ("it is a report",), "accepted_at": NOW}
    return MailBounced(data=BouncedMail(**(data | changes)), **_envelope(event_id))


def auto_replied(event_id: str = "event-9", **changes: Any) -> MailAutoReplied:
    data: dict[str, Any] = {
        "reference": REFERENCE,
        "author": ENQUIRER.address,
        "subject": "Out of office",
        "evidence": ("Auto-Submitted: auto-replied",),
        "accepted_at": NOW,
    }
    return MailAutoReplied(data=AutoRepliedMail(**(data | changes)), **_envelope(event_id))


def accepted(event_id: str = "event-6", **changes: Any) -> CaseAccepted:
    data: dict[str, Any] = {
        "reference": REFERENCE,
        "partner": BEVAN_BRITTAN,
        "by": "Priya Nair",
        "days": 3,
        "enquirer": ENQUIRER,
        "message_id": "<1234@mail.turningcorner.example>",
    }
    return CaseAccepted(data=AcceptedCase(**(data | changes)), **_envelope(event_id))


def ended(event_id: str = "event-7", **changes: Any) -> OfferEnded:
    data: dict[str, Any] = {
        "reference": REFERENCE,
        "partner": BEVAN_BRITTAN,
        "number": 1,
        "how": "withdrawn",
        "why": "A conflict of interest has been recorded.",
    }
    return OfferEnded(data=EndedOffer(**(data | changes)), **_envelope(event_id))


EVERY_EVENT: tuple[CloudEvent, ...] = (
    received(),
    routed(),
    held(),
    booked(),
    mentoring_held(),
    followed_up(),
    followed_up("event-10", partner=None),
    mail_held(),
    accepted(),
    ended(),
)
"""Every event that asks for mail."""


def notifications(event: CloudEvent) -> list[Notification]:
    """What `event` asks for, queued."""
    return [create(None, draft, NOW, LEASE).state for draft in plan(event, LETTERHEAD)]


def notification(event: CloudEvent) -> Notification:
    """The first of them."""
    return notifications(event)[0]
