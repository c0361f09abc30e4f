"""Every version of every event, frozen as JSON: publishers still write it, consumers still read it.

A failure here means that services of two releases would misunderstand each other. Adding an optional field
is allowed; for anything else leave `v1` as it is and add `v2` beside it (`tests/contracts/freeze.py`).
"""

import json
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from shared.contracts.cloudevents import CloudEvent, Person
from shared.contracts.intake import (
    AttachedFile,
    AutoRepliedMail,
    BouncedMail,
    EnquiryFollowedUp,
    EnquiryReceived,
    FailedDelivery,
    FollowedUpEnquiry,
    HeldMail,
    MailAutoReplied,
    MailBounced,
    MailHeld,
    ReceivedEnquiry,
)
from shared.contracts.mentoring import BookedSession, HeldMentoring, MentoringHeld, SessionBooked
from shared.contracts.triage import (
    AcceptedCase,
    CaseAccepted,
    CaseFollowedUp,
    EndedOffer,
    EnquiryHeld,
    EnquiryRouted,
    FollowedUpCase,
    HeldEnquiry,
    MentoringRequested,
    OfferEnded,
    OfferMade,
    Partner,
    RequestedMentoring,
    RoutedEnquiry,
)
from shared.store.cause import Cause, Outgoing
from tests.contracts.freeze import SAMPLES, event_types, schema_of

TYPES = event_types()
ENQUIRY = "5f1c2b7a9d3e4c6f8a0b1d2e3f405162"
ACCEPTED = datetime(2018, 2, 14, 9, 26, 53, 589_000, UTC)
CATH = Person(name="Cath Ogilvie", address="cath.ogilvie@tidewater-libraries.example")
DOS = Person(name="", address="d.osei@brookhouse-care.example")
BEVAN_BRITTAN = Partner(slug="bevan-brittan", name="Bevan Brittan", address="mutuals@bevan-brittan.example")
TEXT = (
    "Dear team,\n\nOur twelve branch libraries would leave the county council on 1 April next year – staff "
    "voted 87 to 9. We need someone to read the transfer agreement (pensions!) and then to check our £1.4m "
    "forecast.\n\nCath\n"
)


LATER = datetime(2018, 2, 15, 16, 2, 11, 3_000, UTC)
MESSAGE = "0b9d3c5e7f1a2b4c6d8e9f0a1b2c3d4e"
NOTIFICATION = "9c0d1e2f3a4b5c6d7e8f9a0b1c2d3e4f"
FORECAST = AttachedFile(
    name="forecast.xlsm",
    media_type="application/vnd.ms-excel.sheet.macroEnabled.12",
    size=48_213,
    sha256="3f79bb7b435b05321651daefd374cdc681dc06faa65e374e38337b88ca046dea",
    danger="it may hold macros",
)


def cause(message_id: str, at: datetime, enquiry: str = ENQUIRY, aggregate: str = ENQUIRY) -> Cause:
    return Cause(
        message_id=message_id, correlation_id=enquiry, aggregate_id=aggregate, now=at, accepted_at=ACCEPTED
    )


def published() -> dict[str, CloudEvent]:
    """The samples as their publishers build them."""
    said = [
        cause(f"received:{ENQUIRY}", ACCEPTED).event(
            EnquiryReceived,
            ReceivedEnquiry(
                reference="MSP-7F3K-2Q",
                sender=CATH,
                subject="Legal help before we leave the council – Tidewater Libraries",
                text=TEXT,
                text_cut=False,
                message_id="<20180214092641.GA4711@mail.tidewater-libraries.example>",
                accepted_at=ACCEPTED,
                via="smtp",
                suppress_reply=True,
                suppress_reply_evidence=("X-Auto-Response-Suppress: OOF",),
            ),
        ),
        cause("c1f1a1de-0000-5000-8000-000000000001", datetime(2018, 2, 14, 9, 26, 53, 640_000, UTC)).event(
            EnquiryRouted,
            RoutedEnquiry(
                reference="MSP-7F3K-2Q",
                stream="advice",
                areas=("legal", "financial"),
                pilot_theme=None,
                mentoring="one-to-one",
                partner=BEVAN_BRITTAN,
                why="Asks for a transfer agreement to be read; Bevan Brittan is first for legal.",
                enquirer=CATH,
                subject="Legal help before we leave the council – Tidewater Libraries",
                text=TEXT,
                message_id="<20180214092641.GA4711@mail.tidewater-libraries.example>",
                suppress_reply=True,
                offer=OfferMade(
                    id=f"{ENQUIRY}-1",
                    number=1,
                    expires_at=datetime(2018, 2, 16, 9, 26, 53, 640_000, UTC),
                    answer_url="https://triage.mutuals.example/offers/5f1c2b7a~bevan-brittan.sig",
                ),
            ),
        ),
        cause("c1f1a1de-0000-5000-8000-000000000005", datetime(2018, 2, 15, 10, 2, 11, 15_000, UTC)).event(
            CaseAccepted,
            AcceptedCase(
                reference="MSP-7F3K-2Q",
                partner=BEVAN_BRITTAN,
                by="Priya Nair",
                days=2.5,
                enquirer=CATH,
                message_id="<20180214092641.GA4711@mail.tidewater-libraries.example>",
                suppress_reply=True,
            ),
        ),
        cause("c1f1a1de-0000-5000-8000-000000000006", datetime(2018, 2, 16, 9, 26, 54, 2_000, UTC)).event(
            OfferEnded,
            EndedOffer(
                reference="MSP-7F3K-2Q",
                partner=BEVAN_BRITTAN,
                number=1,
                how="expired",
                why="There was no answer in the time given.",
            ),
        ),
        cause("c1f1a1de-0000-5000-8000-000000000002", datetime(2018, 2, 14, 9, 26, 53, 701_000, UTC)).event(
            EnquiryHeld,
            HeldEnquiry(
                reference="MSP-0D9X-4H",
                disposition="review",
                reason="stream-unclear",
                why="Names neither a need for advice nor a partnership to try out.",
                enquirer=DOS,
                subject="(no subject)",
            ),
        ),
        cause("c1f1a1de-0000-5000-8000-000000000001", datetime(2018, 2, 14, 9, 26, 53, 640_000, UTC)).event(
            MentoringRequested,
            RequestedMentoring(
                reference="MSP-7F3K-2Q", kind="one-to-one", areas=("legal", "financial"), mentee=CATH
            ),
        ),
        cause("c1f1a1de-0000-5000-8000-000000000003", datetime(2018, 2, 14, 9, 26, 53, 702_000, UTC)).event(
            SessionBooked,
            BookedSession(
                reference="MSP-7F3K-2Q",
                uid=f"session-{ENQUIRY}@mentoring.mutuals-support.example",
                sequence=0,
                mentor=Person(name="Colm Brannigan", address="colm.brannigan@liffeycoop.example"),
                mentee=CATH,
                areas=("legal", "financial"),
                starts="2018-02-21T10:00",
                zone="Europe/London",
                minutes=60,
                where="By video call: Colm sends the link the day before",
            ),
        ),
        cause("c1f1a1de-0000-5000-8000-000000000004", datetime(2018, 2, 14, 9, 26, 53, 733_000, UTC)).event(
            MentoringHeld,
            HeldMentoring(
                reference="MSP-0D9X-4H",
                kind="one-to-one",
                reason="no-slot",
                why="No time from Friday 16 February 2018 to Wednesday 11 April 2018 is free for both.",
                mentee=DOS,
            ),
        ),
        cause(f"received:{MESSAGE}", LATER, aggregate=MESSAGE).event(
            EnquiryFollowedUp,
            FollowedUpEnquiry(
                reference="MSP-7F3K-2Q",
                party="enquirer",
                author=CATH,
                subject="Re: We have received your enquiry (MSP-7F3K-2Q)",
                new_text="The board meets on 1 March – could the agreement be read before then?\n\nCath\n",
                text="The board meets on 1 March – could the agreement be read before then?\n\nCath\n\n"
                "On Wed, 14 Feb 2018 at 09:26, Mutuals Support Programme wrote:\n> Your reference is MSP-7F3K-2Q\n",
                text_cut=False,
                attachments=(FORECAST,),
                message_id="<20180215160154.GA4802@mail.tidewater-libraries.example>",
                accepted_at=LATER,
                suppress_reply=False,
                suppress_reply_evidence=(),
                added_by="Ada Obi",
            ),
        ),
        cause(f"received:{MESSAGE}", LATER, aggregate=MESSAGE).event(
            MailBounced,
            BouncedMail(
                failed=(
                    FailedDelivery(
                        address="mutuals@bevan-brittan.example",
                        permanent=True,
                        status="5.1.1",
                        diagnostic="550 5.1.1 No such mailbox",
                    ),
                ),
                evidence=("it is a report of a delivery (RFC 3464)",),
                accepted_at=LATER,
                reference="MSP-7F3K-2Q",
                party="partner",
                notification=NOTIFICATION,
            ),
        ),
        cause(f"received:{MESSAGE}", LATER, aggregate=MESSAGE).event(
            MailAutoReplied,
            AutoRepliedMail(
                reference="MSP-7F3K-2Q",
                party="enquirer",
                notification=NOTIFICATION,
                author=CATH.address,
                subject="Out of office: We have received your enquiry",
                evidence=("Auto-Submitted: auto-replied",),
                accepted_at=LATER,
            ),
        ),
        cause(f"received:{MESSAGE}", LATER, enquiry=MESSAGE, aggregate=MESSAGE).event(
            MailHeld,
            HeldMail(
                message=MESSAGE,
                reason="not-a-correspondent",
                why="It is about an enquiry that its writer is, as far as we know, no part of.",
                candidates=("MSP-7F3K-2Q",),
                author=DOS,
                subject="MSP-7F3K-2Q",
                accepted_at=LATER,
            ),
        ),
        cause("c1f1a1de-0000-5000-8000-000000000005", LATER).event(
            CaseFollowedUp,
            FollowedUpCase(
                reference="MSP-7F3K-2Q",
                party="enquirer",
                author=CATH,
                subject="Re: We have received your enquiry (MSP-7F3K-2Q)",
                text="The board meets on 1 March – could the agreement be read before then?\n\nCath\n",
                attachments=(FORECAST,),
                partner=Partner(
                    slug="bevan-brittan", name="Bevan Brittan", address="mutuals@bevan-brittan.example"
                ),
            ),
        ),
    ]
    return {event.type: event for event in said}


PUBLISHED = published()


def sample(name: str) -> Any:
    return json.loads((SAMPLES / f"{name}.json").read_text(encoding="utf-8"))


def frozen_schema(name: str) -> Any:
    return json.loads((SAMPLES / f"{name}.schema.json").read_text(encoding="utf-8"))


def read(name: str, content: Any) -> CloudEvent:
    """As a consumer reads: from the bytes of a message."""
    return TYPES[name].model_validate_json(json.dumps(content))


def required_fields(model: type[BaseModel], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of all required fields, those of nested models too."""
    found = []
    for name, field in model.model_fields.items():
        if field.is_required():
            found.append((*path, name))
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += required_fields(field.annotation, (*path, name))
    return found


def broken_promises(frozen: Any, present: Any, path: str = "") -> list[str]:
    """Where a present schema would surprise somebody who relies on the frozen one."""
    if not (isinstance(frozen, dict) and isinstance(present, dict)):
        return [] if frozen == present else [f"{path or 'schema'}: was {frozen}, is {present}"]
    broken = []
    for key in sorted(frozen.keys() | present.keys()):
        here = f"{path}/{key}"
        names = path.endswith(("/properties", "/$defs"))
        if key not in present:
            broken.append(f"{here}: removed")
        elif key in frozen:
            broken += broken_promises(frozen[key], present[key], here)
        elif not names and key not in ("properties", "$defs"):
            broken.append(f"{here}: added")
    return broken


@pytest.mark.parametrize("name", TYPES)
def test_every_event_type_has_a_frozen_sample_and_schema(name):
    assert (SAMPLES / f"{name}.json").is_file()
    assert (SAMPLES / f"{name}.schema.json").is_file(), f"python -m tests.contracts.freeze {name}"


def test_every_sample_has_an_event_type():
    assert {path.name.removesuffix(".json").removesuffix(".schema") for path in SAMPLES.iterdir()} == set(
        TYPES
    )


@pytest.mark.parametrize("name", TYPES)
def test_consumer_reads_the_sample(name):
    event = read(name, sample(name))
    assert event == PUBLISHED[name]


@pytest.mark.parametrize("name", TYPES)
def test_publisher_writes_the_sample(name):
    message = Outgoing.of(PUBLISHED[name])
    assert json.loads(message.body) == sample(name)
    assert message.exchange == PUBLISHED[name].source.removeprefix("/")
    assert message.routing_key in (name, f"{name}.bevan-brittan")
    assert message.message_id == sample(name)["id"]


@pytest.mark.parametrize("name", TYPES)
def test_unknown_fields_are_ignored(name):
    newer = sample(name)
    newer["traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    newer["data"]["added_later"] = {"any": ["thing"]}
    for part in newer["data"].values():
        if isinstance(part, dict):
            part["added_later"] = 1
    assert read(name, newer) == PUBLISHED[name]


REQUIRED = [(name, path) for name, kind in TYPES.items() for path in required_fields(kind)]


@pytest.mark.parametrize(
    ("name", "path"), REQUIRED, ids=lambda part: part if isinstance(part, str) else ".".join(part)
)
def test_missing_required_field_is_an_error(name, path):
    content = sample(name)
    inner = content
    for step in path[:-1]:
        inner = inner[step]
    del inner[path[-1]]
    with pytest.raises(ValidationError) as raised:
        read(name, content)
    assert path in [error["loc"] for error in raised.value.errors()]


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("type", "enquiry.received.v9"),
        ("source", "/elsewhere"),
        ("specversion", "0.3"),
        ("time", "2018-02-14T09:26:53"),
    ],
)
def test_wrong_envelope_is_an_error(name, field, wrong):
    with pytest.raises(ValidationError):
        read(name, {**sample(name), field: wrong})


@pytest.mark.parametrize("name", TYPES)
def test_shape_keeps_what_was_promised(name):
    assert broken_promises(frozen_schema(name), schema_of(TYPES[name])) == []


@pytest.mark.parametrize("name", TYPES)
def test_sample_shows_every_field_but_those_added_since(name):
    """A field no sample carries is one whose spelling nothing freezes. None is left out on the wire."""
    shown = sample(name)["data"].keys()
    frozen = frozen_schema(name)
    data = frozen["$defs"][frozen["properties"]["data"]["$ref"].rpartition("/")[2]]
    assert data["properties"].keys() - shown <= {"pilot_theme"}


def test_checker_of_shapes_allows_a_new_optional_field_and_nothing_else():
    name = "enquiry.received.v1"
    frozen = frozen_schema(name)

    def after(change: Any) -> list[str]:
        present = deepcopy(frozen)
        change(present, present["$defs"]["ReceivedEnquiry"])
        return broken_promises(frozen, present)

    assert after(lambda _, data: data["properties"].update(added={"type": "string", "default": ""})) == []
    assert after(lambda schema, _: schema["$defs"].update(Added={"type": "object"})) == []
    assert after(lambda _, data: data["properties"].pop("text_cut"))
    assert after(lambda _, data: data["properties"].update(words=data["properties"].pop("text")))
    assert after(lambda _, data: data["required"].append("text_cut"))
    assert after(lambda _, data: data["required"].remove("text"))
    assert after(lambda _, data: data["properties"]["via"]["enum"].append("fax"))
    assert after(lambda _, data: data["properties"]["subject"].update(maxLength=10))
    assert after(lambda _, data: data["properties"]["text"].update(minLength=1))
    assert after(lambda _, data: data["properties"]["text_cut"].update(default=True))
    assert after(lambda schema, _: schema["properties"]["type"].update(const="enquiry.received.v2"))
