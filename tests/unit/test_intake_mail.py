"""Reading mail: what real messages look like, what broken ones do, and that nothing gets past either."""

import json
from datetime import UTC, datetime
from email.message import EmailMessage
from time import process_time

import bson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.intake.arrival import arrived_mail
from services.intake.domain import accept
from services.intake.mail import UNKNOWN_ADDRESS, Ours, read
from services.intake.mail.body import TEXT_LIMIT

OURS = Ours(frozenset({"enquiries@programme.example"}), frozenset({"notify.programme.example"}))


def message(body: str | bytes = "Dear all", **headers: str) -> bytes:
    fields = {"From": "Jane Smith <jane@council.example>", "Subject": "Advice"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
    return head.encode() + b"\r\n" + (body if isinstance(body, bytes) else body.encode())


# Text


@pytest.mark.parametrize(
    ("content_type", "encoding", "body", "text"),
    [
        ("text/plain", "", b"Dear all", "Dear all"),
        ("text/plain; charset=utf-8", "8bit", "café".encode(), "café"),
        ("text/plain; charset=iso-8859-1", "8bit", "café".encode("latin-1"), "café"),
        ("text/plain; charset=iso-8859-1", "8bit", "café".encode(), "café"),
        ("text/plain; charset=us-ascii", "8bit", "it\u2019s".encode("cp1252"), "it\u2019s"),
        ("text/plain; charset=DEFAULT_CHARSET", "8bit", "café".encode(), "café"),
        ("text/plain; charset=utf-8", "8bit", "caf\u00e9 \u2013 x".encode("cp1252"), "café – x"),
        ("text/plain; charset=utf-8", "8bit", ("é" * 9).encode()[:-1], "é" * 8 + "\ufffd"),
        ("text/plain; charset=gb2312", "8bit", "你好".encode("gb18030"), "你好"),
        ("text/plain; charset=iso-2022-jp", "7bit", "こんにちは".encode("iso-2022-jp"), "こんにちは"),
        ("text/plain; charset=utf-16", "base64", b"//5hAGIA", "ab"),
        ("text/plain; charset=utf-8", "base64", b"Y2Fmw6k=", "café"),
        ("text/plain; charset=utf-8", "base64", b"Y2Fmw6k", "café"),
        ("text/plain; charset=utf-8", "quoted-printable", b"caf=C3=A9 =\r\nnoir", "café noir"),
        ("text/plain; charset=utf-8", "Base64 ; x", b"Y2Fmw6k=", "café"),
        ("text/plain; charset=punycode", "8bit", "café".encode(), "café"),
        ("text/plain; charset=zip", "8bit", "café".encode(), "café"),
        ("text/plain; charset*=nonsense'en'x", "8bit", b"plain", "plain"),
        ("text/plain", "", b"a\x00b\x1b[31mc\r\nd\re", "ab[31mc\nd\ne"),
        (
            "text/html",
            "",
            b"<p>One &amp; two</p><p>three<br>four<script>x()</script></p>",
            "One & two\n\nthree\nfour",
        ),
        ("text/html; charset=utf-8", "", "<title>T</title><!-- <p> -->café&nbsp;x".encode(), "café x"),
        ("nonsense", "", b"still text", "still text"),
        ("multipart/mixed", "", b"no boundary at all", "no boundary at all"),
        ("multipart/mixed; boundary=x", "", b"never opened", "never opened"),
    ],
)
def test_text_is_readable_whatever_the_sender_claimed(content_type, encoding, body, text):
    raw = message(body, Content_Type=content_type, Content_Transfer_Encoding=encoding)
    assert read(raw).text.strip() == text


def test_plain_text_is_preferred_to_html():
    mail = EmailMessage()
    mail["From"] = "a@b.example"
    mail.set_content("the plain text")
    mail.add_alternative("<p>the html</p>", subtype="html")
    assert read(mail.as_bytes()).text.strip() == "the plain text"


def test_html_is_read_where_the_plain_text_is_blank():
    mail = EmailMessage()
    mail.set_content("  \n")
    mail.add_alternative("<p>the html</p>", subtype="html")
    assert read(mail.as_bytes()).text.strip() == "the html"


def test_text_around_an_attachment_is_read_and_the_attachment_is_not():
    mail = EmailMessage()
    mail.set_content("before")
    mail.add_attachment("a;b", subtype="csv")
    mail.add_attachment(b"%PDF", maintype="application", subtype="pdf")
    after = EmailMessage()
    after.set_content("after")
    mail.attach(after)
    assert read(mail.as_bytes()).text == "before\n\nafter"


def test_text_that_came_attached_is_read_where_there_is_no_other():
    mail = EmailMessage()
    mail.add_attachment("the enquiry", filename="enquiry.txt")
    assert read(mail.as_bytes()).text.strip() == "the enquiry"


def test_enquiry_forwarded_as_an_attached_message_is_not_lost():
    inner = EmailMessage()
    inner["From"] = "head@school.example"
    inner["Subject"] = "Going mutual"
    inner.set_content("we would like advice")
    mail = EmailMessage()
    mail.set_content("please see below")
    mail.add_attachment(inner)
    text = read(mail.as_bytes()).text
    assert text.startswith("please see below")
    assert "From: head@school.example\nSubject: Going mutual" in text
    assert "we would like advice" in text


def test_long_text_is_cut_and_says_so():
    mail = read(message("x" * (TEXT_LIMIT + 1)))
    assert len(mail.text) == TEXT_LIMIT
    assert mail.text_cut
    assert not read(message("x" * TEXT_LIMIT)).text_cut


@pytest.mark.parametrize(
    "raw",
    [
        b"Content-Type: message/rfc822\r\n\r\n" * 20_000,
        b"Content-Type: multipart/mixed; boundary=B0\r\n\r\n"
        + b"".join(b"--B%d\nContent-Type: multipart/mixed; boundary=B%d\n\n" % (i, i + 1) for i in range(90))
        + b"x\n" * 100_000,
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + b"--x\r\n\r\n" * 20_000,
    ],
    ids=["nested messages", "nested parts", "many parts"],
)
def test_message_that_cannot_be_taken_apart_is_shown_as_its_source(raw):
    mail = read(b"Subject: kept\r\n" + raw)
    assert mail.subject == "kept"
    assert mail.parse_error
    assert "could not be read" in mail.text
    assert accept(None, arrived_mail(raw, via="smtp", ours=OURS), datetime.now(UTC)).state.raw == raw


@pytest.mark.parametrize("bomb", ["<", "<!--", "<a ", "<script>", "<p>", "&", "</p", "<![", "<p> \t"])
def test_html_that_never_ends_takes_no_longer(bomb):
    started = process_time()
    read(message(bomb * (300_000 // len(bomb)), Content_Type="text/html"))
    assert process_time() - started < 2


# Headers


@pytest.mark.parametrize(
    ("value", "name", "address"),
    [
        ("Jane Smith <jane@council.example>", "Jane Smith", "jane@council.example"),
        ("jane@council.example", "", "jane@council.example"),
        ("jane@council.example (Jane Smith)", "Jane Smith", "jane@council.example"),
        ('"Smith, Jane" <jane@council.example>', "Smith, Jane", "jane@council.example"),
        ('"Foo <x@y.example>" <jane@council.example>', "Foo <x@y.example>", "jane@council.example"),
        ("=?utf-8?q?Jos=C3=A9?= <jane@council.example>", "José", "jane@council.example"),
        ("=?utf-8?q?Smith,_Jane?= <jane@council.example>", "Smith, Jane", "jane@council.example"),
        ("=?x-unknown?b?SmFuZQ?= <jane@council.example>", "Jane", "jane@council.example"),
        (
            "=?utf-8?b?PHZAdmljdGltLmV4YW1wbGU+?= <jane@council.example>",
            "<v@victim.example>",
            "jane@council.example",
        ),
        ("Team: jane@council.example, joe@council.example;", "", "jane@council.example"),
        ("Jane Smith <mailto:jane@council.example>", "Jane Smith", "jane@council.example"),
        ("Jane Smith jane@council.example", "", "jane@council.example"),
        ("jane@council.example <jane@council.example>", "", "jane@council.example"),
        ("Jané <jané@council.example>", "Jané", "jané@council.example"),
        ("A" * 500 + " <jane@council.example>", "A" * 200, "jane@council.example"),
        ("Jane\u202egpj.exe\u202c <jane@council.example>", "Janegpj.exe", "jane@council.example"),
        ("Jane", "", UNKNOWN_ADDRESS),
        ("undisclosed-recipients:;", "", UNKNOWN_ADDRESS),
        ("<>", "", UNKNOWN_ADDRESS),
        ("(" * 5_000, "", UNKNOWN_ADDRESS),
        ("x" * 400 + "@council.example", "", UNKNOWN_ADDRESS),
        ("", "", UNKNOWN_ADDRESS),
    ],
)
def test_sender_is_found_in_whatever_from_holds(value, name, address):
    sender = read(message(From=value)).sender
    assert (sender.name, sender.address) == (name, address)


def test_answers_go_where_reply_to_says():
    mail = read(message(From="Contact form <no-reply@site.example>", Reply_To="jane@council.example"))
    assert mail.sender.address == "jane@council.example"
    assert mail.author == "no-reply@site.example"
    assert not mail.suppress_reply_evidence


def test_sender_without_an_address_is_known_by_the_envelope():
    assert (
        read(message(From=""), envelope_from="jane@council.example").sender.address == "jane@council.example"
    )


def test_sender_without_any_address_is_not_answered():
    mail = read(message(From="Jane"))
    assert mail.sender.address == UNKNOWN_ADDRESS
    assert mail.suppress_reply_evidence == ("the sender gave no usable address",)


@pytest.mark.parametrize(
    ("value", "subject"),
    [
        ("Advice", "Advice"),
        ("Advice,\r\n on\tlaw", "Advice, on law"),
        ("=?utf-8?q?caf=C3?= =?utf-8?q?=A9_noir?=", "café noir"),
        ("Re: =?iso-8859-1?Q?caf=E9?= open", "Re: café open"),
        ("=?utf-8?b?!!!?= x", "x"),
        ("=?utf-8?q?a=0D=0ABcc:_v@victim.example?=", "a Bcc: v@victim.example"),
        ("x" * 3_000, "x" * 998),
    ],
)
def test_subject_is_one_bounded_line(value, subject):
    assert read(message(Subject=value)).subject.strip() == subject


def test_subject_in_raw_eight_bit_is_repaired():
    assert read(b"Subject: caf\xe9\r\n\r\n").subject == "café"
    assert read("Subject: café\r\n\r\n".encode()).subject == "café"


@pytest.mark.parametrize(
    ("value", "id"),
    [
        ("<a@b.example>", "<a@b.example>"),
        (" <a@b.example> (comment)", "<a@b.example>"),
        ("a@b.example", "<a@b.example>"),
        ("\r\n <a@b.example>", "<a@b.example>"),
        ("<a b@c>", ""),
        ("<[", "<[>"),
        ("<é@b.example>", ""),
        ("", ""),
    ],
)
def test_message_id_can_go_into_a_header_again(value, id):
    assert read(message(Message_ID=value)).message_id == id


def test_headers_behind_a_line_that_is_none_are_still_read():
    mail = read(b"From: jane@council.example\nthis is no header\nSubject: found\n\nbody")
    assert (mail.sender.address, mail.subject) == ("jane@council.example", "found")
    assert "body" in mail.text


# Automatic mail


@pytest.mark.parametrize(
    ("headers", "evidence"),
    [
        ({"Auto_Submitted": "auto-replied"}, "Auto-Submitted: auto-replied"),
        ({"Auto_Submitted": "Auto-Generated; owner=x"}, "Auto-Submitted: auto-generated"),
        ({"Precedence": "Bulk"}, "Precedence: bulk"),
        ({"Precedence": "list"}, "Precedence: list"),
        ({"Precedence": "junk"}, "Precedence: junk"),
        ({"List_Id": "<x.y.example>"}, "it has a List-Id"),
        ({"X_Auto_Response_Suppress": "DR, AutoReply"}, "X-Auto-Response-Suppress: dr, autoreply"),
        ({"X_Auto_Response_Suppress": "All"}, "X-Auto-Response-Suppress: all"),
        ({"From": "MAILER-DAEMON@mx.example"}, "nobody reads the sender's address"),
        ({"From": "postmaster@mx.example"}, "nobody reads the sender's address"),
        ({"From": "no-reply@x.example"}, "nobody reads the sender's address"),
        ({"From": "donotreply+1@x.example"}, "nobody reads the sender's address"),
        ({"From": "owner-list@x.example"}, "nobody reads the sender's address"),
        ({"From": "list-request@x.example"}, "nobody reads the sender's address"),
        ({"From": "Enquiries@Programme.Example"}, "the sender's address is our own"),
        ({"Message_ID": "<x@notify.programme.example>"}, "its Message-ID is one of ours"),
        ({"Content_Type": "multipart/report; boundary=x"}, "it is a report (multipart/report)"),
    ],
)
def test_reply_is_suppressed_with_the_evidence(headers, evidence):
    assert read(message(**headers), ours=OURS).suppress_reply_evidence == (evidence,)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Auto_Submitted": "no"},
        {"Precedence": "first-class"},
        {"X_Auto_Response_Suppress": "DR, RN"},
        {"From": "Norah Eply <norah.eply@x.example>"},
        {"From": "bouncer@x.example"},
        {"List_Unsubscribe": "<mailto:x@y.example>"},
    ],
)
def test_people_are_answered(headers):
    assert (
        read(message(**headers), envelope_from="jane@council.example", ours=OURS).suppress_reply_evidence
        == ()
    )


def test_null_envelope_sender_is_not_answered_and_no_envelope_is():
    assert read(message(), envelope_from="").suppress_reply_evidence == ("the envelope sender is empty",)
    assert read(message(), envelope_from=None).suppress_reply_evidence == ()


# Anything at all

BREAKAGES = st.sampled_from(
    [b"", b"\x00", b"\xff\xfe", b"\r", b"\n\n", b"=?", b"?=", b"--", b"<", b'"', b"(", b"boundary="]
)
KINDS = st.sampled_from(
    [
        "text/plain",
        "text/html",
        "multipart/mixed",
        "multipart/alternative",
        "message/rfc822",
        "multipart/report",
        "x",
    ]
)
CHARSETS = st.sampled_from(
    ["utf-8", "us-ascii", "DEFAULT_CHARSET", "utf-7", "idna", "iso-2022-jp", "\x00", "base64"]
)
ENCODINGS = st.sampled_from(["7bit", "8bit", "base64", "quoted-printable", "x-uuencode", "?"])
WORDS = st.text(max_size=40)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@st.composite
def parts(draw: st.DrawFn, depth: int = 0) -> bytes:
    kind = draw(KINDS)
    boundary = draw(st.sampled_from(["b", "bb", "", '"', "b b"]))
    head = (
        f'Content-Type: {kind}; charset="{draw(CHARSETS)}"; boundary="{boundary}"\r\n'
        f"Content-Transfer-Encoding: {draw(ENCODINGS)}\r\n"
    ).encode()
    if depth < 3 and kind.startswith(("multipart", "message")):
        inner = [draw(parts(depth + 1)) for _ in range(draw(st.integers(0, 3)))]
        body = b"".join(b"--%b\r\n%b\r\n" % (boundary.encode(), part) for part in inner)
        return head + b"\r\n" + body + b"--%b--\r\n" % boundary.encode()
    return head + b"\r\n" + draw(st.binary(max_size=200) | WORDS.map(_bytes))


@st.composite
def broken_messages(draw: st.DrawFn) -> bytes:
    fields = {
        "From": draw(WORDS),
        "Reply-To": draw(WORDS),
        "Subject": draw(WORDS),
        "Message-ID": draw(st.sampled_from(["<a@b>", "<[", "<>", "", "<@>", "<a@[>"])),
        "Date": draw(WORDS),
    }
    raw = b"".join(name.encode() + b": " + _bytes(value) + b"\r\n" for name, value in fields.items())
    raw += draw(parts())
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(raw)))
        gone = draw(st.integers(0, 20))
        raw = raw[:at] + draw(BREAKAGES) + raw[at + gone :]
    return raw


@settings(max_examples=500, deadline=2_000, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(broken_messages(), st.sampled_from([None, "", "x@y.example"]))
def test_anything_is_read_accepted_and_can_be_stored(raw, mail_from):
    arrived = arrived_mail(raw, via="smtp", ours=OURS, mail_from=mail_from)
    state = accept(None, arrived, datetime(2018, 2, 1, tzinfo=UTC)).state
    bson.encode(state.model_dump())
    json.loads(state.model_dump_json(exclude={"raw"}).encode())
    assert state.raw == raw
    assert len(state.subject) <= 998
    assert len(state.text) <= TEXT_LIMIT
    for line in (state.subject, state.sender.name, state.sender.address, state.message_id):
        assert not set(line) & set("\r\n\x00")


@settings(max_examples=200, deadline=2_000, derandomize=True)
@given(st.binary(max_size=400))
def test_any_bytes_are_read(raw):
    assert read(raw).sender.address
