"""What triage says about each outcome."""

from services.triage.domain import Kept, Outcome, route
from services.triage.events import announce
from shared.contracts.triage import EnquiryHeld, EnquiryRouted, MentoringRequested
from shared.store.cause import Cause
from tests.unit.triage_examples import IN_WINDOW, WE_ARE, received, the_programme


def outcome(text: str | None = None, subject: str = "Hello") -> Outcome:
    event = received() if text is None else received(text, subject)
    return route(None, event, the_programme(), IN_WINDOW)


def said(result: Outcome):
    enquiry = result.state.enquiry_id
    cause = Cause(message_id="event-1", correlation_id=enquiry, aggregate_id=enquiry, now=IN_WINDOW)
    return announce(result, cause)


def test_a_routed_case_is_announced_with_the_text_its_partner_needs():
    (event,) = said(outcome())
    assert isinstance(event, EnquiryRouted)
    assert event.data.partner.slug == "bevan-brittan"
    assert event.data.text == received().data.text
    assert event.correlationid == received().correlationid


def test_a_wish_for_a_mentor_is_announced_beside_the_routing():
    text = WE_ARE + "I would like a mentor, somebody who has done it before and whom I can ring once a month."
    routed, requested = said(outcome(text, "Request for a mentor"))
    assert isinstance(routed, EnquiryRouted)
    assert isinstance(requested, MentoringRequested)
    assert (requested.data.kind, requested.data.mentee.address) == ("one-to-one", "ada@example.com")


def test_a_held_case_is_announced_with_its_reason():
    (event,) = said(outcome("Please send details.", "Mutuals"))
    assert isinstance(event, EnquiryHeld)
    assert (event.data.disposition, event.data.reason) == ("review", "too-vague")


def test_what_is_out_of_scope_is_announced_as_held_aside():
    (event,) = said(outcome("Please find my CV and covering letter attached.", "Vacancy"))
    assert isinstance(event, EnquiryHeld)
    assert (event.data.disposition, event.data.reason) == ("out-of-scope", "job-application")


def test_nothing_is_said_twice_about_a_decided_case():
    assert said(Kept(outcome().state)) == []


def test_announcing_again_gives_the_same_events():
    assert said(outcome()) == said(outcome())
