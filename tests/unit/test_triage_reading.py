"""What the rules make of a mail: judged by what is asked for, not by the words used."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.triage.classify.page import Mail
from services.triage.classify.parts import parts_of, passages_of
from services.triage.classify.reading import Reading, read
from services.triage.classify.words import flat
from services.triage.domain import route
from tests.unit.triage_examples import IN_WINDOW, WE_ARE, received, the_programme


def reading(text: str, subject: str = "Enquiry", **sender: str) -> Reading:
    return read(Mail(subject, text, **sender), the_programme().rules)


@pytest.mark.parametrize(
    ("text", "area"),
    [
        ("Please could a solicitor read our lease and tell us what its clauses mean?", "legal"),
        ("We need help to redraft our section 75 partnership agreement with the council.", "legal"),
        ("We need somebody to model the employer rate for the pension fund and our cash flow.", "financial"),
        ("Could you help us work out what our service costs, so that we can set a price list?", "financial"),
        ("Nobody knows we exist. We would like help with a new website and a brochure.", "marketing"),
        (
            "We need advice on harmonising pay and a job evaluation scheme for new starters.",
            "human-resources",
        ),
        (
            "We would like help to write a three year business plan and a growth strategy.",
            "business-planning",
        ),
    ],
)
def test_the_area_is_what_is_asked_for(text: str, area: str):
    guess = reading(WE_ARE + text).guess
    assert (guess.disposition, guess.stream, guess.areas[0]) == ("route", "advice", area)


@pytest.mark.parametrize(
    ("text", "theme"),
    [
        (
            "We would like to work jointly with three local charities and share referrals.",
            "partnership-working",
        ),
        (
            "We would like support to add a new service for adults that we have never offered.",
            "service-broadening",
        ),
    ],
)
def test_the_two_pilots_are_told_apart(text: str, theme: str):
    guess = reading(WE_ARE + text).guess
    assert (guess.stream, guess.pilot_theme, guess.areas) == ("pilot", theme, ())


def test_a_need_that_is_covered_or_declined_does_not_count():
    text = "We have a good solicitor. We don't need legal advice, but we need help with our cash flow."
    assert reading(WE_ARE + text).guess.areas == ("financial",)


def test_the_need_named_as_second_comes_second():
    text = (
        "We need help with a TUPE consultation with the unions. After that, a lawyer to check the contract."
    )
    assert reading(WE_ARE + text).guess.areas == ("human-resources", "legal")


def test_what_a_quoted_reply_offers_is_not_what_the_sender_asks():
    text = (
        WE_ARE + "We would like help with a logo and a website.\n\n"
        "From: Mutuals Support\nTo: Us\nSubject: hello\n\nWe offer legal, financial and HR advice. Need help?"
    )
    assert reading(text, "RE: hello").guess.areas == ("marketing",)


def test_a_job_title_in_the_signature_is_no_need():
    text = WE_ARE + "Could you help us with a brochure and a website?\n\nKind regards\nJo Bee\nLegal Director"
    assert reading(text).guess.areas == ("marketing",)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("As a new chief executive I would like a mentor, somebody who has done it before.", "one-to-one"),
        ("We would like to meet others at the same stage and compare notes.", "peer-network"),
    ],
)
def test_wanting_a_person_or_a_network_is_mentoring(text: str, kind: str):
    guess = reading(WE_ARE + text).guess
    assert (guess.stream, guess.mentoring) == ("advice", kind)


@pytest.mark.parametrize(
    ("subject", "text", "disposition", "reason"),
    [
        ("Automatic reply", "I am on annual leave until Monday.", "auto", "automatic"),
        ("Undeliverable: hello", "Delivery has failed to these recipients.", "auto", "automatic"),
        ("FOI", "Under the Freedom of Information Act please send ...", "review", "freedom-of-information"),
        ("Formal complaint", "I wish to complain about your adviser.", "review", "complaint"),
        ("Query", "I'm a journalist, writing a story. We go to press at five.", "review", "press"),
        ("A constituent", "I write for the House of Commons office.", "review", "members-office"),
        ("Worried", "There was fraud: timesheets were backdated.", "review", "whistle-blowing"),
        ("Interests", "We fear a conflict of interest with a partner.", "review", "conflict-of-interest"),
        (
            "Quietly",
            "My board hasn't authorised this and I write without their knowing.",
            "review",
            "no-authority",
        ),
        ("Role", "Please find my CV and covering letter attached.", "out-of-scope", "job-application"),
        ("Hello", "Book a demo of our platform.", "out-of-scope", "sales"),
        ("Fund", "Dear beneficiary, you have won the lottery.", "out-of-scope", "spam"),
        ("Leisure", "We run pools in Scotland for Highland Council.", "out-of-scope", "outside-england"),
        ("Advice?", "We have never been part of any council.", "review", "ineligible"),
        ("Hello", "Please send details.", "review", "too-vague"),
    ],
)
def test_what_must_not_go_straight_to_a_partner(subject: str, text: str, disposition: str, reason: str):
    found = reading(text, subject)
    assert (found.guess.disposition, found.reason) == (disposition, reason)


@pytest.mark.parametrize(
    ("text", "eligibility"),
    [
        (WE_ARE, "eligible"),
        ("We left the county council in 2015.", "unclear"),
        ("We are owned by our staff.", "unclear"),
        ("We are a mutual.", "unclear"),
        ("Our staff would own it, but no decision to leave the council has been taken.", "unclear"),
    ],
)
def test_eligibility_rests_on_stated_facts_alone(text: str, eligibility: str):
    assert reading(text + " Could a solicitor look at our lease?").eligibility == eligibility


@pytest.mark.parametrize(
    ("text", "urgency"),
    [
        ("The papers must be signed by Friday.", "urgent"),
        ("That is nine days away.", "urgent"),
        ("That is ninety days away.", "normal"),
        ("There is no rush.", "normal"),
    ],
)
def test_urgency_is_a_near_deadline(text: str, urgency: str):
    assert reading(WE_ARE + "Could a solicitor read our lease? " + text).urgency == urgency


def test_no_part_of_a_mail_is_lost_when_it_is_split():
    text = "Hello\n\nWe need help.\n\nRegards\nJo\n\n> quoted\n> more\n\nFor the intended recipient only.\n"
    parts = parts_of(flat(text))
    assert "".join(text[part.start : part.end] for part in parts) == text
    assert [part.kind for part in parts] == ["own", "signature", "quoted", "signature", "small-print"]


def test_a_postscript_is_the_senders_own_again():
    text = "Hello.\n\nRegards\nJo\n\nPS We need a solicitor."
    assert [part.kind for part in parts_of(flat(text))] == ["own", "signature", "own"]


def test_a_list_goes_on_with_the_sentence_above_it():
    text = flat("We need help with:\n- a lease\n- a deed\nThank you for reading this.")
    assert [passage.listed for passage in passages_of(text, parts_of(text))] == [False, True, True, False]


mails = st.text(max_size=400) | st.lists(
    st.sampled_from(
        [
            "we need",
            "help",
            "lease",
            "not",
            "but",
            "\n",
            ">",
            "From: x\nTo: y\n",
            "Regards\n",
            ". ",
            "; ",
            "İ",
            "12 days left",
            "cash flow",
            "charity",
            "together",
            "mentor",
            "PS ",
            "- ",
            "on monday jo wrote:\n",
            "\u2028",
            "’s",
            "never been part of",
        ]
    ),
    max_size=60,
).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(text=mails, subject=mails)
def test_any_text_is_decided_without_fault_and_the_same_each_time(text: str, subject: str):
    event = received(text, subject[:1000])
    first = route(None, event, the_programme(), IN_WINDOW)
    assert route(None, event, the_programme(), IN_WINDOW) == first
    sources = {"text": text, "subject": subject[:1000], "sender": "Ada Wells ada@example.com"}
    for fact in first.state.decision.facts:
        assert sources[fact.where][fact.start : fact.end] == fact.words
