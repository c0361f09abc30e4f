"""What mentoring says about each decision."""

from services.mentoring.domain import Unchanged, book
from services.mentoring.events import announce
from shared.contracts.mentoring import MentoringHeld, SessionBooked
from shared.store.cause import Cause
from tests.unit.mentoring_examples import asked, at, openings

NOW = at("2018-09-17T08:00")
CAUSE = Cause(message_id="requested-1", correlation_id=f"{1:032x}", aggregate_id=f"{1:032x}", now=NOW)


def decide(**request):
    return book(None, asked(**request), openings(), frozenset(), NOW)


def test_booked_session_is_announced_with_all_an_invitation_needs():
    (event,) = announce(decide(areas=("legal",), mentee="sam@mutual.example", name="Sam"), CAUSE)
    assert isinstance(event, SessionBooked)
    assert (event.correlationid, event.causationid, event.time) == (f"{1:032x}", "requested-1", NOW)
    assert event.data.model_dump() == {
        "reference": "MSP-7F3K-2Q",
        "uid": f"session-{1:032x}@mentoring.programme.example",
        "sequence": 0,
        "mentor": {"name": "Ada", "address": "ada@mentors.example"},
        "mentee": {"name": "Sam", "address": "sam@mutual.example"},
        "areas": ("legal",),
        "starts": "2018-09-20T10:00",
        "zone": "Europe/London",
        "minutes": 60,
        "where": "By telephone",
    }


def test_held_request_is_announced_with_its_reason():
    (event,) = announce(decide(areas=("marketing",)), CAUSE)
    assert isinstance(event, MentoringHeld)
    assert (event.data.reason, event.data.why) == ("no-mentor", "No mentor advises on marketing.")
    assert event.data.kind == "one-to-one"


def test_interest_in_the_peer_network_is_not_announced():
    assert announce(decide(kind="peer-network"), CAUSE) == []


def test_what_changes_nothing_is_not_announced():
    assert announce(Unchanged(decide().state), CAUSE) == []


def test_same_decision_is_announced_with_the_same_id():
    assert announce(decide(), CAUSE) == announce(decide(), CAUSE)
