"""Cases kept for an application window, once it has opened. Pure."""

from dataclasses import replace
from datetime import datetime

from services.triage.domain import Case, Kept, NoSuchCase, Outcome, decide
from services.triage.offers import Standing
from services.triage.programme import Programme
from shared.contracts.intake import ReceivedEnquiry


def reopen(case: Case | None, programme: Programme, now: datetime, standing: Standing) -> Outcome:
    """What becomes of a case when the window it waits for has opened: it is read anew, by the rules of this day.

    It is in time for that window however late this is decided. Where the window has been put off it goes on
    waiting. Raises `NoSuchCase`.
    """
    if case is None:
        raise NoSuchCase
    if case.status != "waiting" or case.opens_at is None or now < case.opens_at:
        return Kept(case)
    enquiry = ReceivedEnquiry(
        reference=case.reference,
        sender=case.enquirer,
        subject=case.subject,
        text=case.text,
        message_id=case.message_id,
        accepted_at=case.received_at,
        via="smtp",  # however it came: no rule asks
        suppress_reply=case.suppress_reply,
    )
    fresh = decide(enquiry, case.heard, case.enquiry_id, programme, standing, asked_at=case.opens_at, now=now)
    kept = {
        "follow_ups": case.follow_ups,
        "rulings": case.rulings,
        "language": case.language,
        "region": case.region,
        "revision": case.revision + 1,
    }
    return replace(fresh, state=fresh.state.model_copy(update=kept))
