"""Invitations, read back with `icalendar` and with a second reader that knows only RFC 5545's lines."""

import email
from datetime import UTC, datetime, timedelta
from email import policy
from email.message import EmailMessage
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from icalendar import Calendar, Timezone

from services.notifications.compose import Letter, compose
from services.notifications.content import SessionInvitation
from services.notifications.invitation import invitation, session_time
from shared.contracts.cloudevents import Person
from tests.unit.notifications_samples import ENQUIRER, LETTERHEAD, NOW, booked, notification, notifications

LONDON = ZoneInfo("Europe/London")


def ics(**changes: Any) -> bytes:
    state = notification(booked(**changes))
    assert isinstance(state.content, SessionInvitation)
    return invitation(state, state.content, LETTERHEAD)


def lines(raw: bytes) -> list[str]:
    assert raw.endswith(b"\r\n")
    assert all(len(line) <= 75 for line in raw.split(b"\r\n"))
    return raw.decode().replace("\r\n ", "").split("\r\n")


def event(raw: bytes) -> Any:
    (found,) = Calendar.from_ical(raw).walk("VEVENT")
    return found


def test_invitation_says_who_meets_whom_when_and_where() -> None:
    calendar = Calendar.from_ical(ics())
    assert calendar["METHOD"] == "REQUEST"
    meeting = event(ics())
    assert meeting["UID"] == "session-1@msp.example"
    assert meeting["SEQUENCE"] == 0
    assert meeting["DTSTAMP"].dt == NOW
    assert meeting["DTSTART"].dt == datetime(2018, 9, 25, 10, tzinfo=LONDON)
    assert meeting["DTEND"].dt == datetime(2018, 9, 25, 11, tzinfo=LONDON)
    assert meeting["ORGANIZER"] == "mailto:enquiries@msp.example"
    assert meeting["LOCATION"] == "By telephone: 020 7946 0000"
    assert [str(attendee) for attendee in meeting["ATTENDEE"]] == [
        "mailto:r.beg@turningcorner.example",
        "mailto:moira@mentors.example",
    ]
    assert {attendee.params["RSVP"] for attendee in meeting["ATTENDEE"]} == {"TRUE"}


def test_invitation_read_line_by_line_keeps_to_the_rules() -> None:
    read = lines(ics())
    assert "DTSTART;TZID=Europe/London:20180925T100000" in read
    assert "TZID:Europe/London" in read
    assert "DTSTAMP:20180901T090000Z" in read
    for once in ("UID:", "SEQUENCE:", "DTSTAMP:", "ORGANIZER;", "METHOD:", "PRODID:", "VERSION:"):
        assert sum(line.startswith(once) for line in read) == 1


def test_both_are_sent_the_same_meeting() -> None:
    parts = []
    for state in notifications(booked()):
        assert isinstance(state.content, SessionInvitation)
        parts.append(event(invitation(state, state.content, LETTERHEAD)).to_ical())
    assert parts[0] == parts[1]


def test_changed_session_keeps_its_uid_and_raises_its_sequence() -> None:
    assert event(ics(sequence=3))["SEQUENCE"] == 3
    assert event(ics(sequence=3))["UID"] == event(ics())["UID"]
    made = compose(notification(booked(sequence=3)), LETTERHEAD)
    assert isinstance(made, Letter)
    assert b"Subject: Changed: Mentoring session" in made.message


@pytest.mark.parametrize(
    ("starts", "utc"),
    [
        ("2018-03-24T10:00", datetime(2018, 3, 24, 10, tzinfo=UTC)),
        ("2018-03-25T10:00", datetime(2018, 3, 25, 9, tzinfo=UTC)),
        ("2018-10-27T10:00", datetime(2018, 10, 27, 9, tzinfo=UTC)),
        ("2018-10-28T10:00", datetime(2018, 10, 28, 10, tzinfo=UTC)),
        ("2020-02-29T10:00", datetime(2020, 2, 29, 10, tzinfo=UTC)),
    ],
)
def test_zone_in_the_file_gives_the_right_instant_on_both_sides_of_each_clock_change(
    starts: str, utc: datetime
) -> None:
    raw = ics(starts=starts)
    (zone,) = Calendar.from_ical(raw).walk("VTIMEZONE")
    assert isinstance(zone, Timezone)
    wall = datetime.fromisoformat(starts)
    # From the rules in the file itself, as a reader without its own time zones does it.
    assert wall.replace(tzinfo=zone.to_tz(lookup_tzid=False)).astimezone(UTC) == utc
    assert event(raw)["DTSTART"].dt.astimezone(UTC) == utc


def test_session_over_a_clock_change_lasts_as_long_as_any() -> None:
    meeting = event(ics(starts="2018-10-28T00:30", minutes=60))
    assert meeting["DTEND"].dt.astimezone(UTC) - meeting["DTSTART"].dt.astimezone(UTC) == timedelta(hours=1)


def test_session_agreed_abroad_is_said_in_uk_time_too_and_brings_its_zone() -> None:
    state = notification(booked(zone="America/New_York"))
    assert isinstance(state.content, SessionInvitation)
    assert session_time(state.content) == (
        "Tuesday 25 September 2018 at 3pm UK time (Tuesday 25 September 2018 at 10am, New York time)"
    )
    raw = ics(zone="America/New_York")
    assert "TZID:America/New_York" in lines(raw)
    assert event(raw)["DTSTART"].dt.astimezone(UTC) == datetime(2018, 9, 25, 14, tzinfo=UTC)


def test_invitation_is_a_part_and_an_attachment_with_the_same_content() -> None:
    made = compose(notification(booked()), LETTERHEAD)
    assert isinstance(made, Letter)
    message = email.message_from_bytes(made.message, policy=policy.default)
    assert isinstance(message, EmailMessage)
    shape = [part.get_content_type() for part in message.walk()]
    assert shape == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "text/html",
        "text/calendar",
        "application/ics",
    ]
    (part,) = [part for part in message.walk() if part.get_content_type() == "text/calendar"]
    (attachment,) = message.iter_attachments()
    assert part["Content-Type"].params["method"] == "REQUEST"
    assert attachment.get_filename() == "invite.ics"
    assert part.get_payload(decode=True) == attachment.get_payload(decode=True) == ics()


@pytest.mark.parametrize(
    "name", ['Moira "Mo" Kerr', "Kerr; Moira: x, y", "x\r\nATTENDEE:mailto:victim@example.org", "Zoë ✉ 名前"]
)
def test_names_cannot_add_lines_or_parameters(name: str) -> None:
    raw = ics(mentor=Person(name=name, address="moira@mentors.example"), where=name)
    found = event(raw)
    assert [str(attendee) for attendee in found["ATTENDEE"]] == [
        f"mailto:{ENQUIRER.address}",
        "mailto:moira@mentors.example",
    ]
    assert sum(line.startswith("ATTENDEE") for line in lines(raw)) == 2
    assert found["LOCATION"] == name.replace("\r\n", " ")


def test_other_persons_unusable_address_does_not_cost_the_invitation() -> None:
    raw = ics(mentor=Person(name="Moira Kerr", address="no address"))
    assert str(event(raw)["ATTENDEE"]) == f"mailto:{ENQUIRER.address}"
