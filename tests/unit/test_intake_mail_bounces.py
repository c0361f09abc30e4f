"""Bounces as servers of many makes write them, and what looks like one and is none."""

import pytest

from services.intake.mail import FailedRecipient, Ours, read

JANE = "Jane Smith <jane@council.example>"
DAEMON = "Mail Delivery System <MAILER-DAEMON@mx.example>"
LOST = "nobody@council.example"


def mail(body: str, **headers: str) -> bytes:
    fields = {"From": DAEMON, "To": "bounces@programme.example", "Content-Type": "text/plain; charset=utf-8"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    return "".join(f"{name}: {value}\n" for name, value in fields.items()).encode() + b"\n" + body.encode()


def report(status: str, **headers: str) -> bytes:
    body = (
        "--b\nContent-Type: text/plain\n\nWhat became of your message.\n"
        f"--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example\n\n{status}\n"
        "--b\nContent-Type: text/rfc822-headers\n\nMessage-ID: <ours@programme.example>\nTo: x@y.example\n--b--\n"
    )
    return mail(body, Content_Type="multipart/report; report-type=delivery-status; boundary=b", **headers)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (
            f"Final-Recipient: rfc822; {LOST}\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 none",
            FailedRecipient(LOST, True, "5.1.1", "550 5.1.1 none"),
        ),
        (
            f"Final-Recipient: RFC822;<{LOST}>\nAction: Failed\nStatus: 4.4.7",
            FailedRecipient(LOST, False, "4.4.7"),
        ),
        (
            f"Final-Recipient: rfc822; {LOST}\nAction: delayed\nStatus: 4.4.1",
            FailedRecipient(LOST, False, "4.4.1"),
        ),
        (f"Final-Recipient: rfc822; {LOST}\nAction: failed", FailedRecipient(LOST, True)),
        (f"Final-Recipient: rfc822; {LOST}\nStatus: mangled", FailedRecipient(LOST)),
        (
            f"Final-Recipient: rfc822; {LOST}\nAction: failed\nStatus: 5.0.0\nDiagnostic-Code: smtp; 552 5.2.2 full",
            FailedRecipient(LOST, True, "5.2.2", "552 5.2.2 full"),
        ),
        (
            f"Original-Recipient: rfc822;{LOST}\nFinal-Recipient: rfc822; x@inside.example\nAction: failed",
            FailedRecipient(LOST, True),
        ),
    ],
)
def test_a_report_tells_whose_delivery_failed_how_and_which_message_it_was(status, expected):
    bounce = read(report(status))
    assert bounce.failed_recipients == (expected,)
    assert bounce.bounced_message_ids == ("<ours@programme.example>",)
    assert bounce.bounce_evidence == ("it carries a delivery report (RFC 3464)",)


def test_a_report_of_several_names_those_that_failed():
    status = "\n\n".join(
        f"Final-Recipient: rfc822; {name}@x.example\nAction: {action}"
        for name, action in (("a", "failed"), ("b", "delivered"), ("c", "delayed"), ("a", "failed"))
    )
    assert [failed.address for failed in read(report(status)).failed_recipients] == [
        "a@x.example",
        "c@x.example",
    ]


def test_a_report_of_success_is_no_bounce():
    assert (
        read(report(f"Final-Recipient: rfc822; {LOST}\nAction: relayed\nStatus: 2.0.0")).bounce_evidence == ()
    )


HOME_MADE = {
    "exchange": (
        {"From": "postmaster@x.example", "Subject": "Undeliverable: Your enquiry"},
        f"Delivery has failed to these recipients:\n\n{LOST}\nThe address was not found.\n\n#550 5.1.1 NotFound ##\n\n"
        "Original message headers:\n\nMessage-ID: <ours@programme.example>\n",
    ),
    "domino": (
        {
            "From": "Postmaster@council.example",
            "Subject": "DELIVERY FAILURE: User not listed in Domino Directory",
        },
        f"Your message\n\n  Subject: Test\n\nwas not delivered to:\n\n  {LOST}\n\nbecause:\n\n  5.1.1 not listed\n",
    ),
    "gmail": (
        {"Subject": "Delivery Status Notification (Failure)", "X-Failed-Recipients": LOST},
        "** Address not found **\n\nThe response was:\n\n550 5.1.1 The account does not exist.\n",
    ),
    "exim": (
        {"Subject": "Mail delivery failed: returning message to sender"},
        "A message that you sent could not be delivered to one or more of its\nrecipients. This is a permanent error."
        f" The following address(es) failed:\n\n  {LOST}\n    550 5.1.1 unknown user\n\n"
        "------ This is a copy of the message, including all the headers. ------\n\n"
        "Message-ID: <ours@programme.example>\n",
    ),
    "qmail": (
        {"Subject": "failure notice"},
        "Hi. This is the qmail-send program at x.example.\nI'm afraid I wasn't able to deliver your message.\n\n"
        f"<{LOST}>:\nSorry, no mailbox here by that name. (#5.1.1)\n\n--- Below this line is a copy of the message.\n\n"
        "Message-ID: <ours@programme.example>\n",
    ),
    "sendmail": (
        {"Subject": "Returned mail: User unknown"},
        f"   ----- The following addresses had permanent fatal errors -----\n<{LOST}>\n\n"
        f"   ----- Transcript of session follows -----\n<<< 550 5.1.1 User unknown\n550 <{LOST}>... User unknown\n",
    ),
    "postfix without its type": (
        {"Subject": "Undelivered Mail Returned to Sender"},
        f"I'm sorry to have to inform you\n\n<{LOST}>: host mx said: 550 5.1.1 unknown\n\n"
        f"Final-Recipient: rfc822; {LOST}\nAction: failed\nStatus: 5.1.1\n",
    ),
    "x.400": (
        {"From": "postmaster@x.example", "Subject": "Delivery Report (failure)"},
        "This report relates to a message you sent with these fields:\n\n  Message-ID: <ours@programme.example>\n\n"
        f"Your message cannot be delivered to the following recipients:\n\n  Recipient address: {LOST}\n  5.1.1\n",
    ),
    "groupwise": (
        {"Subject": "Message status - undeliverable"},
        "The message that you sent was undeliverable to the following:\n\tnobody (user not found) 5.1.1\n\n"
        f"Possibly truncated original message follows:\n\nTo: {LOST}\n",
    ),
    "japanese": (
        {"From": "Postmaster@x.example", "Subject": "=?utf-8?b?6YWN5L+h44Ko44Op44O8?="},
        f"次のあて先へのメッセージはエラーのため送信できませんでした。\n\n{LOST}\n550 5.1.1\n",
    ),
    "german": (
        {"From": "postmaster@x.example", "Subject": "Unzustellbar: Anfrage"},
        f"Ihre Nachricht konnte nicht zugestellt werden:\n\n{LOST}\n550 5.1.1 unbekannt\n",
    ),
    "empty sender": (
        {"From": "<>", "Subject": "Mail Error"},
        f"cannot be delivered to:\n\n {LOST}\n 550 5.1.1\n",
    ),
}


@pytest.mark.parametrize("make", HOME_MADE)
def test_a_home_made_bounce_is_recognised_and_names_its_recipient(make):
    headers, body = HOME_MADE[make]
    bounce = read(mail(body, **headers))
    assert bounce.bounce_evidence
    assert [failed.address for failed in bounce.failed_recipients] == [LOST]
    assert bounce.failed_recipients[0].permanent is True
    assert bounce.failed_recipients[0].status == "5.1.1"
    assert bounce.bounced_message_ids == (("<ours@programme.example>",) if "<ours@" in body else ())
    assert bounce.automated_evidence
    assert bounce.suppress_reply_evidence


def test_a_warning_of_delay_is_a_bounce_that_is_not_permanent():
    body = (
        "THIS IS A WARNING ONLY.  YOU DO NOT NEED TO RESEND YOUR MESSAGE.\n\nYour message could not be delivered for"
        f" more than 4 hours.\nIt will be retried.\n\n<{LOST}>: connect to mx: Connection timed out\n"
    )
    bounce = read(mail(body, Subject="Delayed Mail (still being retried)"))
    assert [(failed.address, failed.permanent) for failed in bounce.failed_recipients] == [(LOST, False)]


def test_we_ourselves_are_no_failed_recipient():
    ours = Ours(frozenset({"enquiries@programme.example"}))
    body = f"Your message from enquiries@programme.example could not be delivered to:\n\n{LOST}\n"
    bounce = read(mail(body, Subject="Undelivered mail"), ours=ours)
    assert [failed.address for failed in bounce.failed_recipients] == [LOST]


PEOPLE = {
    "a reply that quotes a bounce": (
        {"Subject": "Re: Undelivered Mail Returned to Sender", "In-Reply-To": "<x@y.example>"},
        f"That address was wrong.\n\n> Your message could not be delivered to\n> <{LOST}>: 550 5.1.1 unknown\n",
    ),
    "a bounce passed on": (
        {"Subject": "Fwd: Undelivered Mail Returned to Sender"},
        "I got this, is there another address?\n\n-------- Forwarded Message --------\nFrom: Mailer@x.example\n\n"
        f"This is the mail system. Your message could not be delivered\n\n<{LOST}>: 550 5.1.1 unknown\n"
        f"Final-Recipient: rfc822; {LOST}\nAction: failed\n",
    ),
    "a complaint about a bounce": (
        {"Subject": "Mail returned to sender"},
        "My message could not be delivered to enquiries2@programme.example: 550 unknown. What shall I do?\n",
    ),
    "a parcel": (
        {"From": "Parcels <service@parcels.example>", "Subject": "Delivery failed: your parcel"},
        "Dear customer, we could not deliver your parcel. Please contact service@parcels.example.\n",
    ),
    "a service that fails": (
        {"Subject": "Service delivery failure, and mutuals"},
        "We can not deliver the service; its recipients have had problems with it: jane@council.example.\n",
    ),
    "a postmaster with an enquiry": (
        {"From": "Postmaster <postmaster@council.example>", "Subject": "Advice for our library"},
        "I run the mail here, and we would like advice on becoming a mutual.\n",
    ),
    "talk on a list": (
        {"Subject": "[users] Undeliverable mail problem", "List-Id": "<users.x.example>"},
        "My server says 550 5.1.1 undeliverable for an unknown user. Any idea?\n\n<a@b.example>: 550 user unknown\n",
    ),
}


@pytest.mark.parametrize("case", PEOPLE)
def test_what_people_write_is_no_bounce(case):
    headers, body = PEOPLE[case]
    assert read(mail(body, **{"From": JANE, **headers})).bounce_evidence == ()


def test_a_bounce_that_came_attached_is_no_bounce():
    headers, text = HOME_MADE["qmail"]
    inner = mail(text, **headers).decode()
    body = f"--b\n\nplease see this\n--b\nContent-Type: message/rfc822\n\n{inner}\n--b--\n"
    raw = mail(body, From=JANE, Subject="from our mail server", Content_Type="multipart/mixed; boundary=b")
    assert read(raw).bounce_evidence == ()
    inner = report(f"Final-Recipient: rfc822; {LOST}\nAction: failed").decode()
    raw = mail(
        f"--c\nContent-Type: message/rfc822\n\n{inner}\n--c--\n",
        From=JANE,
        Content_Type="multipart/mixed; boundary=c",
    )
    assert read(raw).bounce_evidence == ()
