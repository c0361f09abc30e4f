"""What intake decides, as tables: which deliveries are one enquiry, and what is said about it."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from services.intake.arrival import EnquiryForm, arrived_form, arrived_mail
from services.intake.domain import RAW_IN_STATE, Began, Contradicted, Repeated, accept, claims, name_of
from services.intake.events import announce
from services.intake.mail import Ours, content_digest
from shared.contracts.intake import EnquiryReceived
from shared.store import Cause

NOW = datetime(2018, 2, 1, 9, 30, tzinfo=UTC)
OURS = Ours(frozenset({"enquiries@programme.example"}))

MAIL = b"""\
From: Jane Smith <jane@council.example>
To: enquiries@programme.example
Subject: Becoming a mutual,
 and how
Date: Thu, 01 Feb 2018 09:00:00 +0000
Message-ID: <a@council.example>

Dear all,

we would like advice.
"""
HOPS = b"""\
Return-Path: <jane@council.example>
Delivered-To: enquiries@programme.example
Received: from mx.example by in.example with ESMTPS id 4ABC;
\tThu, 1 Feb 2018 09:00:01 +0000
Authentication-Results: in.example; spf=pass
X-Spam-Score: 0.1
X-Gateway-Added: yes
"""


def arrived(raw: bytes = MAIL, **options):
    return arrived_mail(raw, **({"via": "smtp", "ours": OURS} | options))


SAME = {
    "the same bytes": MAIL,
    "fields that hops add": HOPS + MAIL,
    "other line endings": MAIL.replace(b"\n", b"\r\n"),
    "another folding": MAIL.replace(b"mutual,\n and how", b"mutual, and\n\thow"),
    "blank lines at the end": MAIL + b"\n\n",
    "an mbox line": b"From jane@council.example Thu Feb  1 09:00:00 2018\n" + MAIL,
    "another of our addresses": MAIL.replace(b"To: enquiries@", b"To: mutuals@"),
    "another order of fields": MAIL.replace(b"Date:", b"X: y\nDate:").replace(b"X: y\n", b""),
}
OTHER = {
    "another text": MAIL.replace(b"advice", b"a mentor"),
    "another subject": MAIL.replace(b"Becoming", b"Being"),
    "another sender": MAIL.replace(b"jane@", b"joe@"),
    "another Message-ID": MAIL.replace(b"<a@", b"<b@"),
    "another time": MAIL.replace(b"09:00:00", b"09:00:09"),
    "another line that is no header": MAIL.replace(b"Subject:", b"no header\nSubject:"),
}


@pytest.mark.parametrize("raw", SAME.values(), ids=SAME.keys())
def test_same_message_twice_is_one_enquiry(raw):
    first = accept(None, arrived(), NOW)
    again = arrived(raw, via="lmtp", mail_from="", peer="192.0.2.7")
    assert again.id == first.state.id
    assert accept(first.state, again, NOW) == Repeated(first.state)


@pytest.mark.parametrize("raw", OTHER.values(), ids=OTHER.keys())
def test_other_message_is_another_enquiry_even_under_the_same_message_id(raw):
    assert arrived(raw).id != arrived().id


def test_message_without_a_message_id_is_known_by_its_content():
    nameless = MAIL.replace(b"Message-ID: <a@council.example>\n", b"")
    assert arrived(nameless).id == arrived(HOPS + nameless).id
    assert arrived(nameless).id != arrived(nameless + b"more").id


def test_no_two_different_messages_are_merged_because_they_cannot_be_read():
    assert arrived(b"\x00one").id != arrived(b"\x00two").id
    endless = b"x: 1\n" * 45_000
    assert content_digest(endless + b"\nbody") != content_digest(endless + b"y\n\nbody")


def test_id_is_128_bits_in_hexadecimal():
    assert len(arrived().id) == 32
    assert int(arrived().id, 16)


def test_accepted_message_keeps_what_arrived():
    state = accept(
        None, arrived(HOPS + MAIL, mail_from="jane@council.example", rcpt_tos=("a@b.example",)), NOW
    ).state
    assert state.raw == HOPS + MAIL
    assert state.raw_size == len(HOPS + MAIL)
    assert (state.mail_from, state.rcpt_tos) == ("jane@council.example", ("a@b.example",))
    assert (state.sender.name, state.sender.address) == ("Jane Smith", "jane@council.example")
    assert (state.subject, state.message_id) == ("Becoming a mutual, and how", "<a@council.example>")
    assert state.text == "Dear all,\n\nwe would like advice.\n"
    assert (state.accepted_at, state.suppress_reply) == (NOW, False)


def test_large_message_is_kept_as_a_file():
    small, large = arrived(MAIL.ljust(RAW_IN_STATE, b"x")), arrived(MAIL.ljust(RAW_IN_STATE + 1, b"x"))
    assert not small.raw_is_file
    assert accept(None, small, NOW).state.raw == small.raw
    assert large.raw_is_file
    state = accept(None, large, NOW).state
    assert state.raw is None
    assert state.raw_size == RAW_IN_STATE + 1


def test_taken_reference_leads_to_another():
    first, second = accept(None, arrived(), NOW).state, accept(None, arrived(), NOW, attempt=1).state
    assert first.id == second.id
    assert claims(first) != claims(second)
    assert claims(first) == (first.reference, name_of("<a@council.example>"))


def test_deciding_twice_says_the_same_thing():
    cause = Cause("m", arrived().id, arrived().id, NOW)
    assert announce(accept(None, arrived(), NOW), cause) == announce(accept(None, arrived(), NOW), cause)


def test_accepted_message_is_announced_once():
    outcome = accept(None, arrived(mail_from=""), NOW)
    cause = Cause(arrived().id, arrived().id, arrived().id, NOW)
    (event,) = announce(outcome, cause)
    assert isinstance(event, EnquiryReceived)
    assert event.correlationid == outcome.state.id
    assert event.data.reference == outcome.state.reference
    assert event.data.suppress_reply_evidence == ("the envelope sender is empty",)
    assert event.data.suppress_reply
    assert EnquiryReceived.model_validate_json(event.model_dump_json()) == event
    assert announce(Repeated(outcome.state), cause) == []
    assert announce(Contradicted(outcome.state), cause) == []


FORM = EnquiryForm(name="Jane Smith", email="jane@council.example", subject="Advice", message="Dear all")


def form_arrived(form: EnquiryForm = FORM, raw: bytes = b"{}", client: str = "website", key: str = "k1"):
    return arrived_form(form, raw, client=client, key=key, ours=OURS)


def test_same_key_and_form_is_one_enquiry():
    first = accept(None, form_arrived(), NOW)
    assert isinstance(first, Began)
    assert accept(first.state, form_arrived(raw=b'{"other": "spacing"}'), NOW) == Repeated(first.state)


def test_same_key_with_another_form_is_contradicted():
    first = accept(None, form_arrived(), NOW).state
    other = FORM.model_copy(update={"message": "Something else"})
    assert accept(first, form_arrived(other), NOW) == Contradicted(first)


def test_keys_of_two_clients_do_not_meet():
    assert form_arrived(client="a", key="b").id != form_arrived(client="c", key="b").id
    assert form_arrived(client="a", key="bc").id != form_arrived(client="ab", key="c").id


def test_form_reads_like_a_message():
    form = FORM.model_copy(update={"organisation": "Northfield Library"})
    state = accept(None, form_arrived(form), NOW).state
    assert state.text == "Dear all\n\nOrganisation: Northfield Library"
    assert (state.sender.name, state.sender.address, state.via) == (
        "Jane Smith",
        "jane@council.example",
        "http-form",
    )


@pytest.mark.parametrize(
    "change",
    [
        {"email": "nobody"},
        {"email": "a@b.example\r\nBcc: v@victim.example"},
        {"name": " "},
        {"name": "x" * 201},
        {"subject": ""},
        {"message": ""},
        {"message": "\x00"},
        {"message": "x" * 200_000},
        {"unknown": "field"},
    ],
)
def test_form_that_is_not_valid_is_refused(change):
    with pytest.raises(ValidationError):
        EnquiryForm.model_validate(FORM.model_dump() | change)


def test_form_fields_become_single_lines():
    form = EnquiryForm.model_validate(FORM.model_dump() | {"subject": "a\r\nBcc: v@victim.example"})
    assert form.subject == "a Bcc: v@victim.example"
