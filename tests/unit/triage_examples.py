"""The programme as shipped, and a way to write an enquiry in one line."""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from services.triage.programme import Programme, load_programme
from shared.contracts.cloudevents import Person
from shared.contracts.intake import EnquiryFollowedUp, EnquiryReceived, FollowedUpEnquiry, ReceivedEnquiry

PROGRAMME_FILE = Path(__file__).parents[2] / "deploy" / "programme" / "programme.yaml"
IN_WINDOW = datetime(2018, 9, 24, 9, 30, tzinfo=UTC)

WE_ARE = "We left the county council in 2015 and are owned by our staff, who elect the board. "
LEASE = (
    WE_ARE + "Our landlord has sent a new lease. Could a solicitor check the clauses on dilapidations "
    "and draft a reply for us? We need legal advice on the indemnity as well."
)


@cache
def the_programme() -> Programme:
    return load_programme(PROGRAMME_FILE)


def received(text: str = LEASE, subject: str = "Our lease", **changes: Any) -> EnquiryReceived:
    event_id = changes.pop("event_id", "event-1")
    data: dict[str, Any] = {
        "reference": "MSP-7F3K-2Q",
        "sender": Person(name="Ada Wells", address="ada@example.com"),
        "subject": subject,
        "text": text,
        "message_id": "<1@example.com>",
        "accepted_at": IN_WINDOW,
        "via": "smtp",
        **changes,
    }
    return EnquiryReceived(
        id=event_id,
        subject="0123456789abcdef0123456789abcdef",
        time=IN_WINDOW,
        correlationid="0123456789abcdef0123456789abcdef",
        causationid="mail-1",
        data=ReceivedEnquiry.model_validate(data),
    )


def followed_up(text: str = "We have signed the lease.", **changes: Any) -> EnquiryFollowedUp:
    event_id = changes.pop("event_id", "event-2")
    data: dict[str, Any] = {
        "reference": "MSP-7F3K-2Q",
        "party": "enquirer",
        "author": Person(name="Ada Wells", address="ada@example.com"),
        "subject": "Re: Our lease",
        "new_text": text,
        "text": text,
        "accepted_at": IN_WINDOW,
        **changes,
    }
    return EnquiryFollowedUp(
        id=event_id,
        subject="fedcba9876543210fedcba9876543210",
        time=IN_WINDOW,
        correlationid="0123456789abcdef0123456789abcdef",
        causationid="mail-2",
        data=FollowedUpEnquiry.model_validate(data),
    )
