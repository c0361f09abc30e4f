"""Reading real mail: every message of the fetched corpora is read, in time, and bounces are known for what they are."""

import binascii
from pathlib import Path
from time import process_time

from services.intake.mail import attachment_bytes, read
from tests.corpora.fetched import bounces, others

SECONDS = 1.0


def test_nearly_every_bounce_is_recognised_and_its_failed_recipient_found():
    paths = bounces()
    mails = {path.name: read(path.read_bytes()) for path in paths}
    missed = [name for name, mail in mails.items() if not mail.bounce_evidence]
    unnamed = [name for name, mail in mails.items() if not mail.failed_recipients]
    print(
        f"\nbounces: {len(mails)}, recognised {len(mails) - len(missed)}, named {len(mails) - len(unnamed)}"
    )
    assert len(mails) == 115
    assert len(missed) <= 0.02 * len(mails), missed
    assert len(unnamed) <= 0.10 * len(mails), unnamed


def test_no_bounce_is_taken_for_mail_to_be_answered():
    answered = [
        path.name
        for path in bounces()
        if not (mail := read(path.read_bytes())).suppress_reply_evidence and mail.bounce_evidence
    ]
    assert answered == []


def test_warnings_of_delay_are_not_permanent():
    delays = {
        path.name: [failed.permanent for failed in read(path.read_bytes()).failed_recipients]
        for path in bounces()
        if path.name
        in (
            "dsn_05.txt",
            "dsn_06.txt",
            "dsn_07.txt",
            "dsn_08.txt",
            "dsn_17.txt",
            "simple_03.txt",
            "simple_21.txt",
            "simple_28.txt",
            "simple_40.txt",
        )
    }
    assert len(delays) == 9
    assert {permanent for found in delays.values() for permanent in found} == {False}, delays


def test_what_is_no_bounce_is_not_called_one():
    called = {path.name for path in others() if read(path.read_bytes()).bounce_evidence}
    assert called == {"mail_malformed_2"}  # which is one


def test_every_message_is_read_in_time_and_its_new_text_is_within_the_whole():
    for path in [*bounces(), *others()]:
        raw = path.read_bytes()
        started = process_time()
        mail = read(raw)
        assert process_time() - started < SECONDS, path.name
        assert mail.sender.address
        assert set(mail.new_text.split()) <= set(mail.text.split()), path.name
        assert not mail.unreadable, path.name


def test_an_attachment_can_be_had_again_from_the_raw_message():
    found = 0
    for path in others():
        raw = path.read_bytes()
        for at, attached in enumerate(read(raw).attachments):
            data = attachment_bytes(raw, at)
            assert data is not None
            assert len(data) == attached.size
            found += 1
    assert found > 20
    assert attachment_bytes(Path(others()[0]).read_bytes(), 99) is None


def test_attachments_are_what_their_bytes_are():
    by_name = {
        attached.name: attached for path in others() for attached in read(path.read_bytes()).attachments
    }
    assert by_name["Bollettino.pdf"].media_type == "application/pdf"
    assert by_name["Payment Invoice.zip"].danger == "an archive, and was not looked into"
    assert by_name["logometeo.jpg"].media_type == "image/jpeg"
    assert all(len(binascii.unhexlify(attached.sha256)) == 32 for attached in by_name.values())
