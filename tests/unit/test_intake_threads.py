"""Which enquiry a message belongs to, and who may add to it: the table of services/intake/threads.py, and more."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.intake.domain import (
    ArrivedMail,
    AutoReplied,
    Began,
    Bounced,
    Discarded,
    FollowedUp,
    Held,
    Message,
    NotHeld,
    Outcome,
    Proposal,
    accept,
    begin,
    claims,
    correlation,
    discard,
    join,
    name_of,
    tell,
)
from services.intake.events import announce
from services.intake.mail import FailedRecipient, ReadMail
from services.intake.reference import reference_for
from services.intake.threads import Candidate, Tie, Trust, may_join, ties_of
from shared.contracts.cloudevents import Person
from shared.contracts.intake import (
    EnquiryFollowedUp,
    EnquiryReceived,
    MailAutoReplied,
    MailBounced,
    MailHeld,
)
from shared.contracts.replies import LETTERS, Party, Replies
from shared.store import Cause

NOW = datetime(2018, 9, 24, 9, tzinfo=UTC)
ENQUIRY = "0123456789abcdef0123456789abcdef"
REFERENCE = reference_for(ENQUIRY)
NOTIFICATION = "fedcba9876543210fedcba9876543210"
DOMAIN = "programme.example"
REPLIES = Replies(["key"])
TRUST = Trust(REPLIES)
STRICT = Trust(REPLIES, authenticates=True)

JANE = "jane@council.example"
PARTNER = "cases@bevan-brittan.example"
PEOPLE: dict[str, Party] = {JANE: "enquirer"}


def mail(author: str = JANE, **changes) -> ReadMail:
    fields = {
        "sender": Person(name="", address=author),
        "author": author,
        "subject": "Re: your mail",
        "message_id": "<reply@writer.example>",
        "text": "New words.\n> old words",
        "new_text": "New words.",
    }
    return ReadMail(**(fields | changes))


def arrived(read: ReadMail, **changes) -> ArrivedMail:
    fields = {
        "id": "a" * 32,
        "fingerprint": "f",
        "raw": b"raw",
        "raw_sha256": "s",
        "via": "smtp",
        "read": read,
    }
    return ArrivedMail(**(fields | changes))


def candidate(tie: Tie, party: Party = "enquirer", recipient: str = JANE) -> Candidate:
    signed = None
    if tie in ("reply-address", "our-message-id"):
        signed = REPLIES.read_address(REPLIES.address(REFERENCE, party, recipient, DOMAIN))
        assert signed is not None
        if tie == "our-message-id":
            signed = replace(signed, notification=NOTIFICATION)
    return Candidate(ENQUIRY, REFERENCE, tie, signed, PEOPLE)


def decided(read: ReadMail, *candidates: Candidate, trust: Trust = TRUST, **options) -> Outcome:
    return accept(None, arrived(read), NOW, candidates=candidates, trust=trust, **options)


# The table


@pytest.mark.parametrize("tie", ["reply-address", "our-message-id"])
@pytest.mark.parametrize(
    ("author", "given_to", "party"),
    [
        (JANE, JANE, "enquirer"),
        ("JANE@Council.Example", JANE, "enquirer"),
        ("bob@council.example", JANE, "enquirer"),
        (PARTNER, PARTNER, "partner"),
        ("b.lee@bevan-brittan.example", PARTNER, "partner"),
        ("someone@gmail.com", "someone@gmail.com", "mentor"),
        ("another@gmail.com", "someone@gmail.com", None),
        ("stranger@elsewhere.example", JANE, None),
        (JANE, PARTNER, "enquirer"),
    ],
)
def test_who_may_join_by_what_we_signed(tie: Tie, author: str, given_to: str, party: Party | None) -> None:
    part: dict[str, Party] = {JANE: "enquirer", PARTNER: "partner"}
    found = candidate(tie, part.get(given_to, "mentor"), given_to)
    assert may_join(mail(author), found, TRUST) == party
    assert may_join(mail(author), found, STRICT) == party, "the signature is enough"


@pytest.mark.parametrize("tie", ["their-message-id", "reference", "answered-before"])
@pytest.mark.parametrize(
    ("author", "authenticated", "plain", "strict"),
    [
        (JANE, (), "enquirer", None),
        (JANE, ("council.example",), "enquirer", "enquirer"),
        (JANE, ("mail.council.example",), "enquirer", "enquirer"),
        (JANE, ("other.example", "notcouncil.example"), "enquirer", None),
        ("bob@council.example", ("council.example",), None, None),
        ("stranger@elsewhere.example", ("elsewhere.example",), None, None),
    ],
)
def test_who_may_join_by_what_anybody_may_know(
    tie: Tie, author: str, authenticated: tuple[str, ...], plain: Party | None, strict: Party | None
) -> None:
    read = mail(author, authenticated_domains=authenticated)
    assert may_join(read, candidate(tie), TRUST) == plain
    assert may_join(read, candidate(tie), STRICT) == strict


def test_reply_to_makes_nobody_somebody_else() -> None:
    forged = mail("stranger@elsewhere.example", sender=Person(name="", address=JANE))
    assert may_join(forged, candidate("reference"), TRUST) is None


def test_what_a_session_is_answered_with_is_told_from_other_mail_of_the_enquirer() -> None:
    assert may_join(mail(), candidate("reply-address", "mentee", JANE), TRUST) == "mentee"


# What ties a message


def test_ties_are_found_by_envelope_header_message_id_and_subject() -> None:
    address = REPLIES.address(REFERENCE, "enquirer", JANE, DOMAIN)
    ours = REPLIES.message_id(NOTIFICATION, REFERENCE, "enquirer", JANE, DOMAIN)
    by_envelope = ties_of(mail(), b"", (address.upper(),), REPLIES)
    assert [tie for tie, _ in by_envelope.signed] == ["reply-address"]
    header = f"To: Programme <{address}>\r\nSubject: x\r\n\r\nbody".encode()
    assert ties_of(mail(), header, (), REPLIES) == by_envelope
    in_body = f"To: x@y.example\r\n\r\nTo: {address}".encode()
    assert not ties_of(mail(), in_body, (), REPLIES)
    by_id = ties_of(mail(in_reply_to=(ours,), references=("<a@b.example>",)), b"", (), REPLIES)
    [(tie, signed)] = by_id.signed
    assert (tie, signed.notification, signed.reference) == ("our-message-id", NOTIFICATION, REFERENCE)
    assert by_id.answers == ("<a@b.example>",)
    assert ties_of(mail(subject=f"About {REFERENCE.lower()}"), b"", (), REPLIES).reference == REFERENCE


def test_ordinary_first_mail_has_no_ties_and_so_nothing_is_looked_up() -> None:
    raw = b"From: jane@council.example\r\nTo: enquiries@programme.example\r\nSubject: Advice\r\n\r\nDear all"
    assert not ties_of(mail(subject="Advice"), raw, ("enquiries@programme.example",), REPLIES)


# What becomes of it


def test_answer_of_somebody_in_it_joins_and_is_said() -> None:
    outcome = decided(mail(), candidate("reply-address"))
    assert isinstance(outcome, FollowedUp)
    assert (outcome.state.belongs_to, outcome.state.reference, outcome.state.party) == (
        ENQUIRY,
        REFERENCE,
        "enquirer",
    )
    assert correlation(outcome.state) == ENQUIRY
    (event,) = said(outcome)
    assert isinstance(event, EnquiryFollowedUp)
    assert (event.data.new_text, event.data.text) == ("New words.", "New words.\n> old words")
    assert (event.correlationid, event.subject) == (ENQUIRY, "a" * 32)


def said(outcome: Outcome) -> list:
    return list(announce(outcome, Cause("m", correlation(outcome.state), outcome.state.id, NOW)))


def test_stranger_is_held_with_the_enquiries_it_may_be_about() -> None:
    other = Candidate("b" * 32, "MSP-AAAA-AA", "their-message-id", None, {})
    outcome = decided(mail("stranger@elsewhere.example"), candidate("reference"), other)
    assert isinstance(outcome, Held)
    assert [each.reference for each in outcome.state.proposals] == [REFERENCE, "MSP-AAAA-AA"]
    assert correlation(outcome.state) == outcome.state.id
    (event,) = said(outcome)
    assert isinstance(event, MailHeld)
    assert (event.data.reason, event.data.candidates) == ("not-a-correspondent", (REFERENCE, "MSP-AAAA-AA"))


def test_best_tie_by_which_the_writer_may_join_is_taken() -> None:
    signed_for_others = candidate("reply-address", "partner", "x@elsewhere.example")
    signed_for_others = replace(signed_for_others, enquiry="b" * 32, people={})
    outcome = decided(mail(), signed_for_others, candidate("their-message-id"))
    assert outcome.state.enquiry == ENQUIRY


def test_bounce_of_our_mail_names_it_and_is_no_follow_up() -> None:
    failed = FailedRecipient(address=PARTNER, permanent=True, status="5.1.1", diagnostic="gone")
    read = mail("mailer-daemon@mx.example", bounce_evidence=("a report",), failed_recipients=(failed,))
    outcome = decided(read, candidate("reply-address", "partner", PARTNER), candidate("our-message-id"))
    assert isinstance(outcome, Bounced)
    (event,) = said(outcome)
    assert isinstance(event, MailBounced)
    assert (event.data.reference, event.data.party, event.data.notification) == (
        REFERENCE,
        "partner",
        NOTIFICATION,
    )
    assert event.data.failed[0].address == PARTNER


def test_bounce_of_no_mail_of_ours_begins_an_enquiry_to_be_set_aside_and_is_said() -> None:
    outcome = decided(mail(bounce_evidence=("a report",)), candidate("their-message-id"))
    assert isinstance(outcome, Began)
    received, bounced = said(outcome)
    assert isinstance(received, EnquiryReceived) and isinstance(bounced, MailBounced)
    assert received.data.automated_evidence == ("a report",)
    assert bounced.data.reference is None and bounced.data.notification is None


def test_machine_that_answers_our_mail_is_noted_even_where_it_is_the_enquirers() -> None:
    outcome = decided(mail(automated_evidence=("Auto-Submitted",)), candidate("our-message-id"))
    assert isinstance(outcome, AutoReplied)
    (event,) = said(outcome)
    assert isinstance(event, MailAutoReplied)
    assert (event.data.notification, event.data.evidence) == (NOTIFICATION, ("Auto-Submitted",))


@pytest.mark.parametrize("tie", ["their-message-id", "answered-before"])
def test_machine_that_answers_others_mail_begins_an_enquiry_to_be_set_aside(tie: Tie) -> None:
    outcome = decided(mail(automated_evidence=("List-Id",)), candidate(tie))
    assert isinstance(outcome, Began)
    (event,) = said(outcome)
    assert event.data.automated_evidence == ("List-Id",)


def test_message_nobody_can_read_is_held_with_the_reason() -> None:
    outcome = decided(mail(text="", new_text="", unreadable=True, parse_error="no charset"))
    assert isinstance(outcome, Held)
    assert said(outcome)[0].data.reason == "unreadable"
    machines = mail(unreadable=True, automated_evidence=("Auto-Submitted",))
    assert isinstance(decided(machines), Began), "operators are not asked about each of these"


# An answer that comes before its original


def test_answer_waits_for_its_original_by_name() -> None:
    answer = decided(mail(in_reply_to=("<original@writer.example>",))).state
    original = decided(mail(message_id="<original@writer.example>")).state
    shared = set(claims(answer)[1:]) & set(claims(original)[1:])
    assert shared == {name_of("<original@writer.example>")}, "so the second write is refused and looks again"
    joined = decided(
        mail(message_id="<original@writer.example>"),
        candidate("answered-before"),
        not_known_as=frozenset(shared),
    )
    assert isinstance(joined, FollowedUp) and not shared & set(claims(joined.state))


def test_original_of_another_person_begins_its_own_enquiry() -> None:
    taken = frozenset({name_of("<reply@writer.example>")})
    outcome = decided(mail("joe@other.example"), candidate("answered-before"), not_known_as=taken)
    assert isinstance(outcome, Began) and not taken & set(claims(outcome.state))


# What an operator decides


def held() -> Message:
    return decided(mail("stranger@elsewhere.example"), candidate("reference")).state


def test_operator_adds_a_held_message_to_an_enquiry() -> None:
    outcome = join(held(), Proposal(enquiry=ENQUIRY, reference=REFERENCE), "partner", "Ada", "their lawyer")
    assert (outcome.state.party, outcome.state.held, outcome.state.belongs_to) == ("partner", "", ENQUIRY)
    assert said(outcome)[0].data.added_by == "Ada"
    assert "Ada: their lawyer" in tell(outcome.state)


def test_operator_lets_a_held_message_begin_an_enquiry() -> None:
    outcome = begin(held(), "Ada", "another matter")
    assert isinstance(said(outcome)[0], EnquiryReceived)
    assert claims(outcome.state) == (outcome.state.reference,)
    assert begin(held(), "Ada", "x", attempt=1).state.reference != outcome.state.reference


def test_operator_discards_a_held_message_and_it_is_kept() -> None:
    outcome = discard(held(), "Ada", "spam")
    assert isinstance(outcome, Discarded) and said(outcome) == []
    assert outcome.state.text


def test_what_is_not_held_cannot_be_decided() -> None:
    gone = discard(held(), "Ada", "spam").state
    for message in (None, gone, decided(mail()).state):
        with pytest.raises(NotHeld):
            discard(message, "Ada", "spam")


# What we sign


@pytest.mark.parametrize("party", LETTERS)
def test_what_was_signed_is_read_back_whatever_the_case(party: Party) -> None:
    address = REPLIES.address(REFERENCE, party, JANE, DOMAIN)
    assert len(address.partition("@")[0]) <= 64
    for folded in (address, address.upper(), address.title()):
        signed = REPLIES.read_address(folded)
        assert signed is not None and (signed.reference, signed.party) == (REFERENCE, party)
        assert REPLIES.wrote_to(signed, JANE.upper()) and not REPLIES.wrote_to(signed, "joe@council.example")
        assert REPLIES.wrote_to_domain_of(signed, "joe@council.example")


def test_nobody_can_make_one_up_or_change_one() -> None:
    address = REPLIES.address(REFERENCE, "enquirer", JANE, DOMAIN)
    for place, letter in enumerate(address.partition("@")[0]):
        other = "a" if letter != "a" else "b"
        assert REPLIES.read_address(address[:place] + other + address[place + 1 :]) is None
    assert Replies(["other"]).read_address(address) is None
    ours = REPLIES.message_id(NOTIFICATION, REFERENCE, "enquirer", JANE, DOMAIN)
    assert REPLIES.read_message_id(ours.replace(NOTIFICATION, "0" * 32)) is None
    mac = address.partition(".")[2].partition("@")[0]
    own = ours.partition("@")[0].rpartition(".")[2]
    assert REPLIES.read_message_id(ours.replace(own, mac)) is None, "one's is not the other's"


def test_key_can_be_changed_without_losing_what_was_signed_before() -> None:
    old, new = Replies(["old"]), Replies(["new", "old"])
    signed = new.read_address(old.address(REFERENCE, "partner", PARTNER, DOMAIN))
    assert signed is not None and new.wrote_to(signed, PARTNER)
    assert old.read_address(new.address(REFERENCE, "partner", PARTNER, DOMAIN)) is None


@pytest.mark.parametrize("keys", [[], [""], ["a", ""]])
def test_no_empty_key_is_taken(keys: list[str]) -> None:
    with pytest.raises(ValueError, match="key"):
        Replies(keys)
