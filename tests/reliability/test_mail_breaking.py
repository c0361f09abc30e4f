"""Messages built and then broken, twenty thousand of them: reading never raises, and never takes long.

Each is made from one short string of bytes that is read as a tape of choices, so that building takes
microseconds and a failure shrinks to few of them.
"""

from time import process_time

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.intake.mail import Ours, attachment_bytes, read
from services.intake.mail.body import FILES_LIMIT, TEXT_LIMIT

OURS = Ours(frozenset({"enquiries@programme.example"}), frozenset({"notify.programme.example"}), "mx.example")
UNSAFE = {chr(code) for code in range(32)} | {"\x7f", "\u202e"}

EXAMPLES = 20_000
SECONDS = 1.0

KINDS = (
    b"text/plain; charset=utf-8",
    b"text/html; charset=iso-8859-1",
    b"multipart/mixed",
    b"multipart/alternative",
    b"message/rfc822",
    b"multipart/report; report-type=delivery-status",
    b"message/delivery-status",
    b"text/rfc822-headers",
    b"text/plain; format=flowed; delsp=yes",
    b"application/ms-tnef",
    b"application/pdf",
    b"multipart/digest",
    b"text/plain; charset=utf-7",
    b"text/plain; charset*=x'y'%ff",
    b"image/png; name*0*=a''%",
    b"x",
    b'application/octet-stream; name="=?utf-8?b?Li4vLi4vYS5wZGYuZXhl?="',
    b"text/calendar",
    b"message/disposition-notification",
)
ENCODINGS = (b"7bit", b"base64", b"quoted-printable", b"x-uuencode", b"8bit", b"base64 ; x", b"?")
BOUNDARIES = (b"b", b"bb", b"", b'"', b"b b", b"=_\xff", b"(b)")
FIELDS = (
    b"From: Jane <jane@council.example>",
    b"From: MAILER-DAEMON@mx.example",
    b"From: <>",
    b"Return-Path: <>",
    b"Subject: Re: advice",
    b"Subject: Undelivered Mail Returned to Sender",
    b"Subject: =?utf-8?q?=C3?=",
    b"Subject: Fwd: advice",
    b"Subject: Automatic reply: advice",
    b"Message-ID: <[",
    b"In-Reply-To: <a@b> <c@d>",
    b"References: <a@b><c\xff@d> <",
    b"Auto-Submitted: auto-replied",
    b"X-Failed-Recipients: a@b.example,",
    b"Authentication-Results: mx.example; dkim=pass header.d=council.example",
    b"Received: from a",
    b"Precedence: bulk",
    b"no field at all",
    b'Reply-To: "',
    b"List-Id: <",
    b"X-Auto-Response-Suppress: All",
    b" folded",
)
BODIES = (
    b"We would like to become a mutual.\n",
    b"",
    b"caf\xc3\xa9 caf\xe9\n",
    b"> quoted\n> more\n",
    b"-- \nJane\n",
    b"On 1 Feb 2018 at 10:00, Max <max@x.example> wrote:\n",
    b"-----Original Message-----\n",
    b"From: a\nSent: b\nTo: c\nSubject: d\n\n",
    b"<p>html<blockquote>quoted",
    b'<div class="gmail_quote">',
    b"<!--",
    b"</blockquote></pre><pre>",
    b"&#xfdd0;&#xd800;&",
    b"\xef\xb7\x90 noncharacter\n",
    b"PCFET0NUWVBFPg==\n",
    b"=C3=A9=\n=",
    b"begin 644 a\n#86)C\nend\n",
    b"Final-Recipient: rfc822; a@b.example\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 no\n\n",
    b"your message could not be delivered to the following recipients:\n\n<a@b.example>: 550 no such user\n",
    b"Hi. This is the qmail-send program\n\n<a@b.example>:\nno\n",
    b"------ This is a copy of the message ------\n",
    b"\x78\x9f\x3e\x22\x01\x00\x02\x0c\x80\x02\x00\xff\xff\xff\x7f",
    b"MZ\x90\x00",
    b"PK\x03\x04" + b"\0" * 40,
    b"%PDF-1.4 /JavaScript",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    b"\x1b$B$3$s\x1b(B",
    b"\x00\x01\x02",
    b"Begin forwarded message:\n",
    b"Sent from my iPhone\n",
    b"Kind regards,\nJane Smith\nTel: 01234 567890\n",
    b"a" * 300,
    b"\n" * 50,
    b"\r\r\n",
    b">" * 200 + b"\n",
    b":\n" * 30,
)
BREAKAGES = (
    b"",
    b"\x00",
    b"\xff\xfe",
    b"\r",
    b"\n\n",
    b"=?",
    b"?=",
    b"--",
    b"<",
    b'"',
    b"(",
    b"boundary=",
    b"\n--b\n",
    b"--b--\n",
    b"@",
    b";",
)
NAMES = (
    b"",
    b"a.pdf",
    b"../../a.exe",
    b"\xe2\x80\xaegpj.exe",
    b"a.pdf .scr",
    b"CON",
    b"winmail.dat",
    b"x" * 400 + b".doc",
    b"\xff\xfe.zip",
)


class Tape:
    """Choices, each a byte; where it has run out, always the first."""

    def __init__(self, choices: bytes) -> None:
        self._choices = iter(choices)

    def below(self, limit: int) -> int:
        return next(self._choices, 0) % limit

    def of(self, options: tuple[bytes, ...]) -> bytes:
        return options[self.below(len(options))]


def part(tape: Tape, depth: int = 0) -> bytes:
    kind, boundary = tape.of(KINDS), tape.of(BOUNDARIES)
    head = b"Content-Type: %b; boundary=%b\n" % (kind, boundary)
    head += b"Content-Transfer-Encoding: %b\n" % tape.of(ENCODINGS)
    if tape.below(3) == 1:
        head += b'Content-Disposition: attachment; filename="%b"\n' % tape.of(NAMES)
    if depth < 3 and kind.startswith((b"multipart", b"message/rfc822")):
        inner = b"".join(b"--%b\n%b\n" % (boundary, part(tape, depth + 1)) for _ in range(tape.below(4)))
        return head + b"\n" + inner + b"--%b--\n" % boundary
    return head + b"\n" + b"".join(tape.of(BODIES) for _ in range(1 + tape.below(3)))


def broken_message(choices: bytes) -> bytes:
    tape = Tape(choices)
    raw = b"".join(tape.of(FIELDS) + b"\n" for _ in range(tape.below(6))) + part(tape)
    for _ in range(tape.below(5)):
        at = (tape.below(256) * 256 + tape.below(256)) % (len(raw) + 1)
        raw = raw[:at] + tape.of(BREAKAGES) + raw[at + tape.below(20) :]
    return raw.replace(b"\n", b"\r\n") if tape.below(2) else raw


def test_twenty_thousand_broken_messages_are_read_in_time():
    count = 0

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.binary(max_size=80))
    def any_is_read(choices: bytes) -> None:
        nonlocal count
        count += 1
        raw = broken_message(choices)
        started = process_time()
        mail = read(raw, envelope_from=(None, "", "a@b.example")[len(choices) % 3], ours=OURS)
        assert process_time() - started < SECONDS
        assert len(mail.new_text) <= len(mail.text) <= TEXT_LIMIT
        assert mail.sender.address
        assert len(mail.attachments) <= FILES_LIMIT
        assert not mail.bounce_evidence or mail.suppress_reply_evidence
        lines = [mail.subject, mail.message_id, mail.author, mail.sender.name, mail.sender.address]
        lines += [*mail.in_reply_to, *mail.references, *mail.bounced_message_ids, *mail.automated_evidence]
        lines += [text for attached in mail.attachments for text in (attached.name, attached.claimed_type)]
        lines += [text for failed in mail.failed_recipients for text in (failed.address, failed.diagnostic)]
        for line in lines:
            assert not set(line) & UNSAFE, line
        for attached in mail.attachments:
            assert attached.name
            assert not set(attached.name) & set("/\\<>")
        if mail.attachments:
            assert attachment_bytes(raw, len(mail.attachments) - 1) is not None
        (mail.text + mail.new_text).encode()  # no lone surrogate, which no store could hold

    any_is_read()
    assert count >= EXAMPLES
