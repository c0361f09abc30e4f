"""All that notifications hears: each event asks for mails, and each mail is queued durably before the ack."""

from services.notifications.desk import Desk
from shared.contracts.intake import EnquiryReceived, MailAutoReplied, MailBounced, MailHeld
from shared.contracts.mentoring import MentoringHeld, SessionBooked
from shared.contracts.triage import CaseAccepted, CaseFollowedUp, EnquiryHeld, EnquiryRouted, OfferEnded
from shared.messaging.hears import Hears

hears = Hears("notifications")


@hears(EnquiryReceived)
async def acknowledge(event: EnquiryReceived, desk: Desk) -> None:
    """Tells the enquirer that their message has arrived, unless it asks for no automatic answer."""
    await desk.write(event)


@hears(EnquiryRouted)
async def send_case_to_partner(event: EnquiryRouted, desk: Desk) -> None:
    """Sends the case to the partner."""
    await desk.write(event)


@hears(EnquiryHeld)
async def tell_operators_of_held_enquiry(event: EnquiryHeld, desk: Desk) -> None:
    """Tells the operators that a case waits for them, and why."""
    await desk.write(event)


@hears(CaseAccepted)
async def tell_enquirer_who_will_help(event: CaseAccepted, desk: Desk) -> None:
    """Tells the enquirer which partner has taken their case."""
    await desk.write(event)


@hears(OfferEnded)
async def tell_partner_of_ended_offer(event: OfferEnded, desk: Desk) -> None:
    """Tells a partner that a case is no longer offered to it."""
    await desk.write(event)


@hears(SessionBooked)
async def invite_to_session(event: SessionBooked, desk: Desk) -> None:
    """Invites mentor and mentee."""
    await desk.write(event)


@hears(MentoringHeld)
async def tell_operators_of_held_mentoring(event: MentoringHeld, desk: Desk) -> None:
    """Tells the operators that nobody could be found for a mentoring request."""
    await desk.write(event)


@hears(CaseFollowedUp)
async def pass_follow_up_on(event: CaseFollowedUp, desk: Desk) -> None:
    """Passes what the enquirer wrote next to the partner who has the case, everything else to the operators."""
    await desk.write(event)


@hears(MailHeld)
async def tell_operators_of_held_mail(event: MailHeld, desk: Desk) -> None:
    """Tells the operators that a message waits for them."""
    await desk.write(event)


@hears(MailBounced)
async def take_mail_back(event: MailBounced, desk: Desk) -> None:
    """Marks the mail that came back, with the other server's words."""
    await desk.take_back(event)


@hears(MailAutoReplied)
async def note_automatic_answer(event: MailAutoReplied, desk: Desk) -> None:
    """Notes with a mail that a machine answered it. Nothing is sent."""
    await desk.note_answer(event)
