"""All that triage hears."""

from services.triage.domain import Case, Outcome, follow_up, route
from services.triage.programme import Programme
from shared.clock import Clock
from shared.contracts.intake import EnquiryFollowedUp, EnquiryReceived
from shared.messaging.hears import Hears
from shared.store import Aggregates

hears = Hears("triage")

Cases = Aggregates[Case, Outcome]


@hears(EnquiryReceived)
async def route_enquiry(event: EnquiryReceived, cases: Cases, programme: Programme, clock: Clock) -> None:
    """Opens a case and sends it to a partner, or holds it for an operator."""
    now = clock()
    await cases.apply(event, lambda case: route(case, event, programme, now), opens=True)


@hears(EnquiryFollowedUp)
async def note_follow_up(event: EnquiryFollowedUp, cases: Cases) -> None:
    """Notes what was written with the case; before the case is opened it waits in a retry tier."""
    await cases.apply(event, lambda case: follow_up(case, event))
