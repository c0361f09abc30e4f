"""All that triage hears."""

from services.triage.desk import Desk
from shared.contracts.intake import EnquiryFollowedUp, EnquiryReceived
from shared.messaging.hears import Hears

hears = Hears("triage")


@hears(EnquiryReceived)
async def route_enquiry(event: EnquiryReceived, desk: Desk) -> None:
    """Opens a case and offers it to a partner, or holds it for an operator."""
    await desk.route(event)


@hears(EnquiryFollowedUp)
async def note_follow_up(event: EnquiryFollowedUp, desk: Desk) -> None:
    """Notes what was written with the case; before the case is opened it waits in a retry tier."""
    await desk.note(event)
