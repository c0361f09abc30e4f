"""The message as a mail reader sees it: everything made is read back with the standard library's parser."""

import email
import re
from dataclasses import replace
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifications.addresses import UnusableAddress, envelope_address
from services.notifications.compose import Letter, compose
from services.notifications.content import TEMPLATE_VERSIONS
from services.notifications.domain import Notification, Unsendable, came_back, create, suppress
from services.notifications.plan import bounce_notice, held_back_notice, plan
from services.notifications.windows import windows_in
from services.notifications.wording import clean_line, listed, presentable_name, uk_time
from shared.contracts.cloudevents import CloudEvent, Person
from tests.unit.notifications_samples import (
    ENQUIRER,
    EVERY_EVENT,
    LEASE,
    LETTERHEAD,
    NOW,
    booked,
    bounced,
    held,
    notification,
    received,
    routed,
)
from tests.unit.triage_examples import PROGRAMME_FILE

HEADERS = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "References",
    "Auto-Submitted",
    "X-Auto-Response-Suppress",
    "MIME-Version",
    "Content-Type",
]

anything = st.text(st.characters(codec="utf-8"), max_size=200)
nasty = st.one_of(
    anything,
    st.sampled_from(
        [
            "x\r\nBcc: victim@example.org",
            "x\nContent-Type: text/html\n\n<script>",
            "=?utf-8?q?=0D=0ABcc:_victim@example.org?=",
            "\u202egro.elpmaxe\u2066",
            "--=_a" + "0" * 32,
            ".\r\n.\r\nMAIL FROM:<x>",
            '"><img src=x onerror=alert(1)>',
            "{{ 7*7 }}{% raw %}",
            "é" * 200,
            "\x85\u2028\u2029\x00\x1b]0;x\x07",
        ]
    ),
)


def letter(state: Notification) -> Letter:
    made = compose(state, LETTERHEAD)
    assert isinstance(made, Letter), made
    return made


def read(made: Letter) -> EmailMessage:
    message = email.message_from_bytes(made.message, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert part is not None
    text: str = part.get_content()
    return text.replace("\r\n", "\n")


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)


def tags(html: str) -> set[str]:
    parser = _Tags()
    parser.feed(html)
    parser.close()
    return parser.tags


def assert_sound(made: Letter, recipient: str) -> EmailMessage:
    """What every message must be, whoever wrote what stands in it."""
    assert made.recipient == recipient
    assert b"\0" not in made.message
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", made.message), "a line end that is not CRLF"
    assert max(len(line) for line in made.message.split(b"\r\n")) <= 998
    message = read(made)
    for part in message.walk():
        assert part.defects == []
    sometimes = {"In-Reply-To", "Reply-To"}
    names = [name for name in message.keys() if name not in sometimes]  # noqa: SIM118 - a message is no dict
    assert names == HEADERS
    for name, value in message.items():
        assert value.defects == (), (name, value.defects)
    assert [address.addr_spec for address in message["To"].addresses] == [recipient]
    assert [address.addr_spec for address in message["From"].addresses] == ["enquiries@msp.example"]
    texts = [part.get_content_type() for part in message.walk() if part.get_content_maintype() == "text"]
    assert texts[:2] == ["text/plain", "text/html"]
    return message


@pytest.mark.parametrize("event", EVERY_EVENT, ids=lambda event: event.event_type())
def test_each_mail_is_sound_and_names_the_reference_in_its_subject(event: CloudEvent) -> None:
    state = notification(event)
    message = assert_sound(letter(state), state.recipient.address)
    assert "MSP-7F3K-2Q" in message["Subject"]
    assert "MSP-7F3K-2Q" in body(message, "plain")
    assert "MSP-7F3K-2Q" in body(message, "html")
    assert message["Message-ID"] == state.message_id
    assert message["Date"].datetime == NOW


def notices() -> list[Notification]:
    """What operators are told of mail that came back, and of mail that is held back."""
    back = came_back(notification(routed()), bounced().data.failed, NOW).state
    held_back = suppress(None, plan(received(), LETTERHEAD)[0], NOW, "Held back: <enough>.").state
    drafts = [bounce_notice(back, LETTERHEAD), held_back_notice(held_back, LETTERHEAD, NOW)]
    return [create(None, draft, NOW, LEASE).state for draft in drafts if draft]


def test_notices_are_sound_and_say_why() -> None:
    for state in notices():
        message = assert_sound(letter(state), "operators@msp.example")
        assert "MSP-7F3K-2Q" in message["Subject"]
        assert "No such user" in body(message, "plain") or "<enough>" in body(message, "plain")
        assert "<enough>" not in body(message, "html")


def test_every_template_is_reached_by_an_event_or_a_notice() -> None:
    states = [*map(notification, EVERY_EVENT), *notices()]
    assert {state.content.template for state in states} == set(TEMPLATE_VERSIONS)


@pytest.mark.parametrize("event", EVERY_EVENT, ids=lambda event: event.event_type())
def test_mail_about_an_enquiry_is_answered_to_an_address_signed_for_its_recipient(event: CloudEvent) -> None:
    state = notification(event)
    made = letter(state)
    signed = LETTERHEAD.replies.read_address(str(read(made)["Reply-To"] or ""))
    if not state.reference:
        assert signed is None and made.sender == "enquiries@msp.example"
        return
    assert signed is not None and (signed.reference, signed.party) == (state.reference, state.party)
    assert LETTERHEAD.replies.wrote_to(signed, state.recipient.address)
    assert made.sender == read(made)["Reply-To"], "where bounces and many automatic answers go"


@pytest.mark.parametrize("event", EVERY_EVENT, ids=lambda event: event.event_type())
def test_same_notification_is_the_same_bytes_at_every_attempt(event: CloudEvent) -> None:
    state = notification(event)
    assert compose(state, LETTERHEAD) == compose(Notification.model_validate(state.model_dump()), LETTERHEAD)


def test_acknowledgement_answers_the_enquirers_own_message() -> None:
    message = read(letter(notification(received())))
    assert message["In-Reply-To"] == "<1234@mail.turningcorner.example>"
    assert message["References"].split()[-1] == "<1234@mail.turningcorner.example>"
    assert message["Auto-Submitted"] == "auto-replied"


@pytest.mark.parametrize(
    ("accepted", "words"),
    [
        # the last second of the first window: 17:00 in London is 16:00 UTC in summer
        (datetime(2018, 6, 29, 15, 59, 59, tzinfo=UTC), None),
        (
            datetime(2018, 6, 29, 16, tzinfo=UTC),
            "closed at the moment, and open again on Monday 3 September 2018 at 9am",
        ),
        (datetime(2018, 9, 3, 7, 59, 59, tzinfo=UTC), "open again on Monday 3 September 2018 at 9am"),
        (datetime(2018, 9, 3, 8, tzinfo=UTC), None),
        (datetime(2018, 12, 1, tzinfo=UTC), "open again on Monday 14 January 2019 at 9am"),
        (datetime(2020, 2, 28, 17, tzinfo=UTC), "closed for good"),
    ],
)
def test_outside_a_window_the_acknowledgement_says_when_the_next_opens(accepted: datetime, words: str | None):
    letterhead = replace(LETTERHEAD, windows=windows_in(PROGRAMME_FILE))
    [draft] = plan(received(accepted_at=accepted), letterhead)
    message = assert_sound(letter(create(None, draft, accepted, LEASE).state), "r.beg@turningcorner.example")
    for kind in ("plain", "html"):
        read = " ".join(re.sub("<[^>]*>", "", body(message, kind)).split())
        assert (words in read) if words else ("Applications" not in read)


def test_all_mail_about_one_enquiry_has_one_ancestor() -> None:
    ancestors = {read(letter(notification(event)))["References"].split()[0] for event in EVERY_EVENT}
    assert ancestors == {"<case.0123456789abcdef0123456789abcdef@msp.example>"}


@pytest.mark.parametrize("event", EVERY_EVENT[1:], ids=lambda event: event.event_type())
def test_everything_but_the_acknowledgement_is_marked_as_generated(event: CloudEvent) -> None:
    message = read(letter(notification(event)))
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["X-Auto-Response-Suppress"] == "OOF, AutoReply"


@pytest.mark.parametrize(
    "spam", ["Cheap pills www.pills.example", "Buy now http://x.example", "Call 0800 123"]
)
def test_acknowledgement_repeats_nothing_a_forger_could_want_to_send_on(spam: str) -> None:
    enquiry = received(sender=Person(name=spam, address="victim@example.org"), subject=spam, text=spam)
    made = letter(notification(enquiry))
    message = read(made)
    assert spam not in message["Subject"] + body(message, "plain") + body(message, "html") + str(
        message["To"]
    )


@given(name=nasty, subject=nasty, text=nasty, why=nasty)
def test_strangers_words_never_leave_their_place(name: str, subject: str, text: str, why: str) -> None:
    state = notification(
        routed(enquirer=Person(name=name[:200], address="x@y.example"), subject=subject, text=text, why=why)
    )
    message = assert_sound(letter(state), "cases@bevan-brittan.example")
    assert tags(body(message, "html")) <= {
        "html", "head", "meta", "title", "body", "div", "p", "h1", "h2", "br", "strong", "blockquote", "a",
    }  # fmt: skip
    plain = body(message, "plain")
    # Each field keeps to its own line, so nobody can write a line of ours.
    assert (
        sum(line.startswith("Reference: ") for line in plain.partition("What they wrote")[0].split("\n")) == 1
    )


@given(name=nasty)
def test_no_name_breaks_the_headers(name: str) -> None:
    state = notification(received(sender=Person(name=name[:200], address="x@y.example")))
    assert_sound(letter(state), "x@y.example")


@given(reason=st.from_regex(r"[a-z0-9-]{1,10000}", fullmatch=True), subject=nasty)
def test_overlong_subject_is_cut(reason: str, subject: str) -> None:
    message = assert_sound(
        letter(notification(held(reason=reason, subject=subject))), "operators@msp.example"
    )
    assert len(message["Subject"]) <= 180


@given(text=anything)
def test_what_the_enquirer_wrote_reaches_the_partner_unchanged(text: str) -> None:
    plain = body(read(letter(notification(routed(text=text)))), "plain")
    shown = re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", re.sub("\r\n?|\x85", "\n", text)).strip("\n")
    assert f"---------------\n\n{shown}\n\n---------------" in plain


@pytest.mark.parametrize(
    "text", ["Ṣẹ́ ẹ lè ràn wá lọ́wọ́?", "ہمیں قانونی مشورہ چاہیے" * 500, "x" * 200_000, "é\n" * 50_000]
)
def test_text_of_any_length_and_language_is_readable(text: str) -> None:
    message = assert_sound(letter(notification(routed(text=text))), "cases@bevan-brittan.example")
    assert text.strip() in body(message, "plain")
    assert text.strip() in body(message, "html")


@pytest.mark.parametrize(
    ("written", "usable"),
    [
        ("r.beg@turningcorner.example", "r.beg@turningcorner.example"),
        ("O'Brien+advice@Example.ORG", "O'Brien+advice@example.org"),
        ("anna@bücher.example", "anna@xn--bcher-kva.example"),
        ("anna@BÜCHER.example", "anna@xn--bcher-kva.example"),
        ("renée@example.org", "renée@example.org"),
        (" spaced@example.org ", "spaced@example.org"),
        ("root@localhost", "root@localhost"),
    ],
)
def test_usable_addresses_are_written_as_servers_want_them(written: str, usable: str) -> None:
    assert envelope_address(written) == usable


@pytest.mark.parametrize(
    "unusable",
    [
        "nobody",
        "@example.org",
        "nobody@",
        "a b@example.org",
        "a@b@example.org",
        '"quoted <x>"@example.org',
        "a@example.org\r\nRCPT TO:<b@example.org>",
        "a\x00@example.org",
        "a@-example.org",
        "a@example..org",
        "a@[127.0.0.1]",
        "a@exa mple.org",
        "a@☃\u200b.example",
        ".a@example.org",
        "a" * 65 + "@example.org",
        "a@" + "b" * 64 + ".example",
        "a@" + "b." * 130 + "example",
        "a>@example.org",
        "a\u202e@example.org",
    ],
)
def test_mail_to_an_unusable_address_fails_with_a_reason(unusable: str) -> None:
    with pytest.raises(UnusableAddress):
        envelope_address(unusable)
    state = notification(received(sender=Person(address=unusable)))
    made = compose(state, LETTERHEAD)
    assert isinstance(made, Unsendable)
    assert made.words.startswith("The ")
    assert unusable not in made.words


@given(address=st.text(min_size=3, max_size=320))
def test_no_address_is_worse_than_refused(address: str) -> None:
    try:
        usable = envelope_address(address)
    except UnusableAddress:
        return
    assert not re.search(r"[\s<>\x00-\x1f]", usable)


def test_international_address_stands_in_the_header_as_it_is() -> None:
    state = notification(received(sender=Person(name="Renée Ünal", address="renée@bücher.example")))
    made = letter(state)
    assert "renée@xn--bcher-kva.example" in made.message.decode()
    assert read(made)["To"].addresses[0].display_name == "Renée Ünal"


def test_session_in_a_zone_nobody_knows_fails_with_a_reason() -> None:
    for changes in ({"zone": "Mars/Olympus"}, {"zone": "../../etc/passwd"}, {"starts": "2018-02-30T10:00"}):
        made = compose(notification(booked(**changes)), LETTERHEAD)
        assert isinstance(made, Unsendable)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("Rukhsana Beg", "Rukhsana Beg"),
        ("  Rukhsana\r\n Beg ", "Rukhsana Beg"),
        ("J.R. O'Neill-Smith", "J.R. O'Neill-Smith"),
        ("Beg, Rukhsana (Turning Corner)", "Beg, Rukhsana (Turning Corner)"),
        ("محمد علی", "محمد علی"),
        ("", ""),
        ("me@example.org", ""),
        ("Win a prize www.x.example", ""),
        ("visit spam.example", ""),
        ("Call 0800", ""),
        ("x" * 61, ""),
        ("<script>", ""),
    ],
)
def test_only_what_reads_like_a_name_is_used_as_one(written: str, shown: str) -> None:
    assert presentable_name(written) == shown


@pytest.mark.parametrize(
    ("instant", "said"),
    [
        (datetime(2018, 9, 25, 9, 0, tzinfo=UTC), "Tuesday 25 September 2018 at 10am"),
        (datetime(2018, 1, 5, 17, 30, tzinfo=UTC), "Friday 5 January 2018 at 5:30pm"),
        (datetime(2018, 7, 1, 11, 0, tzinfo=UTC), "Sunday 1 July 2018 at midday"),
        (datetime(2018, 12, 31, 0, 0, tzinfo=UTC), "Monday 31 December 2018 at midnight"),
        (datetime(2020, 2, 29, 12, 5, tzinfo=UTC), "Saturday 29 February 2020 at 12:05pm"),
    ],
)
def test_times_are_said_as_in_britain(instant: datetime, said: str) -> None:
    assert uk_time(instant) == said


@pytest.mark.parametrize(
    ("slugs", "words"),
    [
        ((), ""),
        (("human-resources",), "human resources"),
        (("legal", "financial"), "legal and financial"),
        (("legal", "financial", "marketing"), "legal, financial and marketing"),
    ],
)
def test_lists_are_said_as_people_do(slugs: tuple[str, ...], words: str) -> None:
    assert listed(slugs) == words


@given(text=st.text(), limit=st.integers(1, 300))
def test_clean_line_is_one_short_line_of_visible_characters(text: str, limit: int) -> None:
    cleaned = clean_line(text, limit)
    assert len(cleaned) <= limit
    assert all(character.isprintable() or character in "\u200c\u200d" for character in cleaned)
    assert cleaned.encode().decode() == cleaned


def test_enquirer_without_a_name_is_greeted_without_one() -> None:
    message = read(letter(notification(received(sender=Person(address=ENQUIRER.address)))))
    assert "Hello" not in body(message, "plain")
