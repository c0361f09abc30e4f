"""What is new in a mail: quoted replies and signatures are folded away, what was forwarded is not, nothing is lost."""

import pytest

from services.intake.mail import read
from services.intake.mail.flowed import unflowed
from services.intake.mail.folding import new_text
from services.intake.mail.html import text_of

OUTLOOK = (
    "From: Head <h@school.example>\nSent: 1 Feb 2018\nTo: Council\nSubject: Mutual\n\nWe want to be one.\n"
)


@pytest.mark.parametrize(
    "quoted",
    [
        "On 3 Apr 2012, at 16:19, bob wrote:\n\n> Hi\n> there\n",
        "On Mon, 2 Apr 2012 at 18:26, A Very Long Name\n<averylong@council.example> wrote:\n\n> Hi\n",
        "On Thu, 1 Feb 2018 at 10:00, Max <max@x.example> wrote:\n\nnot marked as quoted\nat all\n",
        "> On 22 Aug 2015, at 19:21, Max <max@x.example> wrote:\n>\n> Hi\n",
        "Am 01.02.2018 um 10:00 schrieb Max <max@x.example>:\n> hallo\n",
        "Le jeu. 1 févr. 2018 à 10:00, Max <max@x.example> a écrit :\n\n> bonjour\n",
        "El jue., 1 feb. 2018 a las 10:00, Max (<max@x.example>) escribió:\n\n> hola\n",
        "Il giorno gio 1 feb 2018 alle ore 10:00 Max <max@x.example> ha scritto:\n\n> ciao\n",
        "Op do 1 feb. 2018 om 10:00 schreef Max <max@x.example>:\n\n> hoi\n",
        "W dniu 01.02.2018 o 10:00, Max pisze:\n> hej\n",
        "01.02.2018 10:00 пользователь Max <\nmax@x.example> написал:\n\n> привет\n",
        "2018年2月1日(木) 10:00 Max <max@x.example>:\n\n> hi\n",
        "2018-02-01 10:00 GMT Max <max@x.example>:\n\n> hi\n",
        "max@x.example (Max) writes:\n\n> hi\n",
        "-----Original Message-----\nFrom: Max\nSent: Monday\n\nhi\n",
        "-----Ursprüngliche Nachricht-----\nVon: Max\n\nhi\n",
        "---- On Thu, 01 Feb 2018 10:00:00 +0000 Max <max@x.example> wrote ----\n\nhello\n",
        "________________________________\n" + OUTLOOK,
        OUTLOOK,
        "Von: Max <max@x.example>\nGesendet: Donnerstag\nAn: Jane\nBetreff: AW: Rat\n\nhallo\n",
        "De : Max <max@x.example>\nEnvoyé : jeudi\nÀ : Jane\nObjet : RE: Conseil\n\nbonjour\n",
        "От: Max\nОтправлено: четверг\nКому: Jane\n\nпривет\n",
        "*From:* Max <max@x.example>\n*Sent:* Monday\n*To:* Jane\n*Subject:* Advice\n\nhi\n",
        "| quoted by a bar\n| and again\n",
        "MX> quoted with initials\nMX> and again\n",
    ],
)
def test_a_quoted_reply_is_folded_in_whatever_way_and_language(quoted):
    assert new_text(f"Yes, please.\n\n{quoted}", "Re: Advice") == "Yes, please."


def test_what_is_written_below_or_between_quotations_is_new():
    below = "On 04/02/2012 06:26 PM, Bob wrote:\n> Do you want it?\n\nYes, and more.\n\n-- \nJane\n"
    assert new_text(below) == "Yes, and more."
    assert new_text("> Do you want it?\nYes\n> When?\nTomorrow\n") == "Yes\nTomorrow"


@pytest.mark.parametrize(
    "signature",
    [
        "-- \nJane Smith\nCouncil\n",
        "--\nJane\n",
        "-Jane Smith\n",
        "Sent from my iPhone\n",
        "Get Outlook for iOS\n",
        "Von meinem iPhone gesendet\n",
        "Jane Smith\nHead of Service\n",
        "Gina Grey\ngina@example.com\n(555) 346-9947\nwww.example.com\n",
        "----------------\n\nJane Smith\n\nt. 555-931-0702\n\nhttp://example.com/\n",
    ],
)
def test_a_signature_is_folded(signature):
    assert new_text(f"We would like advice.\n\n{signature}", "", "Jane Smith") == "We would like advice."


def test_a_sign_off_and_its_name_stay_and_the_card_below_is_folded():
    text = "We would like advice.\n\nKind regards,\nJane Smith\nHead of Service\nTel: 01234 567890\n"
    assert new_text(text) == "We would like advice.\n\nKind regards,\nJane Smith"


@pytest.mark.parametrize(
    ("subject", "above", "below"),
    [
        ("Mutual", "", f"---------- Forwarded message ----------\n{OUTLOOK}"),
        (
            "Mutual",
            "Passing this on.\n\n",
            "Begin forwarded message:\n\n> From: Head\n>\n> We want to be one.\n",
        ),
        ("Mutual", "FYI, one for you?\n\n", f"-----Original Message-----\n{OUTLOOK}"),
        ("RE: Mutual", "Hello,\nplease see the email below from a school.\n\n", OUTLOOK),
        ("Fwd: Mutual", "Can you help them?\n\n", OUTLOOK),
        ("WG: Mutual", "Danke!\n\n", OUTLOOK),
        ("Re: Mutual", "\n\n", f"-----Original Message-----\n{OUTLOOK}"),
        ("Re: Mutual", "", "> We want to be one.\n"),
    ],
)
def test_an_enquiry_that_was_passed_on_is_not_lost_below_the_fold(subject, above, below):
    assert "We want to be one." in new_text(above + below, subject)


@pytest.mark.parametrize(
    "text",
    [
        "We need:\n\n- advice\n- money\n\nNote: this is urgent.\nFrom: our view, it is:\nGood",
        "On 5 May 2018 the council wrote to us:\nplease form a mutual.",
        "To: whom it may concern\n\nWe want to be a mutual.",
        "Name: Jane\nFrom: Leeds\nQuestion: can we?",
        "We ask for:\n\n| no table\nbut a pipe",
        "Three > two, and that is all.",
    ],
)
def test_ordinary_text_is_new_as_it_stands(text):
    expected = text.replace("\n| no table", "") if "|" in text else text
    assert new_text(text).split() == expected.split()


@pytest.mark.parametrize(
    "quotation",
    [
        '<div class="gmail_quote">On Thu, Max &lt;m@x.example&gt; wrote:<br><blockquote>Hi</blockquote></div>',
        '<div id="divRplyFwdMsg" dir="ltr"><b>From:</b> Max<br><b>Sent:</b> Monday</div><div>Hi</div>',
        '<div id="appendonsend"></div><hr><b>From:</b> Max<br>Hi',
        '<div class="moz-cite-prefix">On 26.06.2014 14:41, Max wrote:<br></div><blockquote type="cite">Hi</blockquote>',
        '<blockquote type="cite"><div>On 1 Feb 2018, at 10:00, Max &lt;m@x.example&gt; wrote:</div>Hi</blockquote>',
        '<div style="border:none;border-top:solid #E1E1E1 1.0pt"><b>From:</b> Max</div><p>Hi',
        '<hr id="stopSpelling">Date: Thu<br>Subject: x<br>From: m@x.example<br>Hi',
        '<div name="quote" style="margin:10px">Gesendet: Montag<br>Hi</div>',
        "<p>26.06.2014, 14:41, &quot;Max&quot; &lt;m@x.example&gt;:</p><blockquote>Hi</blockquote>",
    ],
)
def test_a_quotation_in_html_is_folded_and_in_the_whole_text(quotation):
    raw = b"Subject: Re: x\nContent-Type: text/html\n\n<div>Yes, please.</div>" + quotation.encode()
    mail = read(raw)
    assert mail.new_text == "Yes, please."
    assert "Hi" in mail.text
    assert mail.text.isprintable() or "\ufdd0" not in mail.text


def test_indented_html_is_no_quotation():
    text, _, _ = text_of('<p>We ask:<blockquote style="margin:0 0 0 40px;border:none">for money</blockquote>')
    assert text == "We ask:\nfor money"


def test_a_forwarded_message_in_the_message_is_kept_as_a_forward():
    raw = (
        b"Subject: a school\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nCan you help?\n--b\n"
        b"Content-Type: message/rfc822\n\nFrom: head@school.example\nSubject: Mutual\n\nWe want to be one.\n--b--\n"
    )
    mail = read(raw)
    assert "---------- Forwarded message ----------\nFrom: head@school.example\nSubject: Mutual" in mail.text
    assert mail.new_text == mail.text


@pytest.mark.parametrize(
    ("delete", "sent", "text"),
    [
        (False, "one \ntwo\nthree", "one two\nthree"),
        (True, "one \ntwo", "onetwo"),
        (False, ">> a \n>> b\n> c", ">> a b\n> c"),
        (False, "a \n> b", "a \n> b"),
        (False, " From us", "From us"),
        (False, "Yes\n-- \nJane", "Yes\n-- \nJane"),
        (False, "", ""),
    ],
)
def test_flowed_text_is_made_whole(delete, sent, text):
    assert unflowed(sent, delete_space=delete) == text
