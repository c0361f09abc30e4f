"""The invitation to a session: iCalendar (RFC 5545) as Outlook, Gmail and Apple read it from mail (iMIP, RFC
6047)."""

from datetime import datetime, timedelta
from functools import lru_cache
from urllib.parse import quote
from zoneinfo import ZoneInfo

from icalendar import (
    Calendar,
    Event,
    Timezone,
    TimezoneDaylight,
    TimezoneStandard,
    vCalAddress,
    vRecur,
    vText,
)

from services.notifications.addresses import UnusableAddress, envelope_address
from services.notifications.content import SessionInvitation
from services.notifications.domain import Letterhead, Notification
from services.notifications.wording import LONDON, clean_line, person_line, plain_line, said, spoken
from shared.contracts.cloudevents import Person


def invitation(notification: Notification, session: SessionInvitation, letterhead: Letterhead) -> bytes:
    """An iMIP request (RFC 6047) for `session`, in wall time with its zone, so that it stays right should the
    law on summer time change before the day."""
    event = Event()
    event.add("uid", clean_line(session.uid, 200))
    event.add("sequence", session.sequence)
    event.add("dtstamp", notification.created_at)
    starts = starts_at(session)
    event.add("dtstart", starts)
    event.add("dtend", _later(starts, session.minutes))
    event.add("summary", f"Mentoring session, {letterhead.programme}")
    event.add(
        "description",
        f"Mentor: {person_line(session.mentor)}\n"
        f"Mentee: {person_line(session.mentee)}\n"
        f"Reference: {notification.reference}",
    )
    event.add("location", plain_line(session.where))
    event.add("status", "CONFIRMED")
    event.add("transp", "OPAQUE")
    event.add("organizer", _calendar_user(letterhead.sender), encode=False)
    for person in (session.mentee, session.mentor):
        try:
            attendee = _calendar_user(person)
        except UnusableAddress:
            # Only the other one: nobody who cannot be written to is sent an invitation. This one still comes.
            continue
        attendee.params["CUTYPE"] = vText("INDIVIDUAL")
        attendee.params["ROLE"] = vText("REQ-PARTICIPANT")
        attendee.params["PARTSTAT"] = vText("NEEDS-ACTION")
        attendee.params["RSVP"] = vText("TRUE")
        event.add("attendee", attendee, encode=False)
    calendar = Calendar()
    calendar.add("prodid", "-//Mutuals Support Programme//Mentoring//EN")
    calendar.add("version", "2.0")
    calendar.add("calscale", "GREGORIAN")
    calendar.add("method", "REQUEST")
    calendar.add_component(_zone(session.zone, starts.year))
    calendar.add_component(event)
    return bytes(calendar.to_ical())


def starts_at(session: SessionInvitation) -> datetime:
    return datetime.fromisoformat(session.starts).replace(tzinfo=ZoneInfo(session.zone))


def _later(starts: datetime, minutes: int) -> datetime:
    # Through UTC: a session that crosses a change of the clocks lasts as long as any other.
    zone = starts.tzinfo
    return (starts.astimezone(ZoneInfo("UTC")) + timedelta(minutes=minutes)).astimezone(zone)


def _calendar_user(person: Person) -> vCalAddress:
    # The address is part of a URI (RFC 6068), the name part of a parameter that cannot hold a double quote.
    user = vCalAddress("mailto:" + quote(envelope_address(person.address), safe="@!$'*+-._~"))
    name = clean_line(person.name, 100).replace('"', "'")
    if name:
        user.params["CN"] = vText(name)
    return user


@lru_cache(maxsize=64)
def _zone(name: str, year: int) -> Timezone:
    if name != LONDON.key:
        first = datetime(year - 1, 1, 1)  # noqa: DTZ001 - only its date is looked at
        return Timezone.from_tzid(
            name, first_date=first.date(), last_date=first.replace(year=year + 3).date()
        )
    # With its rule rather than a list of dates, because Outlook reads only the rule. It has held since 1996.
    zone = Timezone()
    zone.add("tzid", name)
    for season, starts, month, before, after, abbreviation in (
        (TimezoneDaylight(), datetime(1996, 3, 31, 1), 3, 0, 1, "BST"),  # noqa: DTZ001 - wall time
        (TimezoneStandard(), datetime(1996, 10, 27, 2), 10, 1, 0, "GMT"),  # noqa: DTZ001 - wall time
    ):
        season.add("dtstart", starts)
        season.add("rrule", vRecur(FREQ="YEARLY", BYMONTH=month, BYDAY="-1SU"))
        season.add("tzoffsetfrom", timedelta(hours=before))
        season.add("tzoffsetto", timedelta(hours=after))
        season.add("tzname", abbreviation)
        zone.add_component(season)
    return zone


def session_time(session: SessionInvitation) -> str:
    """When a session starts, in UK time; where it was agreed in another zone, also as it was agreed."""
    agreed = starts_at(session)
    if session.zone == LONDON.key:
        return said(agreed)
    city = spoken(session.zone.rpartition("/")[2].replace("_", " "))
    return f"{said(agreed.astimezone(LONDON))} UK time ({said(agreed)}, {city} time)"
