"""All that triage hears."""

from services.triage.desk import Desk
from services.triage.envelopes.api import Envelopes, take
from services.triage.envelopes.domain import Refused, reservation
from shared.contracts.intake import EnquiryFollowedUp, EnquiryReceived
from shared.contracts.triage import CaseAccepted
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


@hears(CaseAccepted)
async def reserve_money(event: CaseAccepted, desk: Desk, envelopes: Envelopes) -> None:
    """Reserves what the partner's days cost; where the envelope has no more the case goes back to the operators."""
    case = await desk.cases.get(event.correlationid)
    offer = case.offer if case else None
    if case is None or case.stream is None or offer is None or case.partner != event.data.partner:
        return  # it has gone elsewhere meanwhile, and costs nothing here
    pence = desk.programme.cost(case.stream, event.data.days)
    if not pence:
        return
    order = reservation(event, case.partner.slug, pence, desk.clock())
    outcome = await take(envelopes, case.stream, order, desk.programme)
    if isinstance(outcome, Refused):
        await desk.no_money(case.enquiry_id, offer.id, outcome.why)
