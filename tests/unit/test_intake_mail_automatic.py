"""Mail that a machine sent, mail that asks for no answer, and whose word is taken for who sent it."""

import pytest

from services.intake.mail import Ours, read

OURS = Ours(authserv_id="mx.programme.example")


def mail(body: str = "Dear all", **headers: str) -> bytes:
    fields = {"From": "Jane <jane@council.example>", "Subject": "Advice"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    return "".join(f"{name}: {value}\n" for name, value in fields.items()).encode() + b"\n" + body.encode()


@pytest.mark.parametrize(
    "headers",
    [
        {"Auto_Submitted": "auto-replied (vacation)"},
        {"X_Autoreply": "yes"},
        {"X_Auto_Reply_From": "x@y.example"},
        {"List_Id": "<news.x.example>"},
        {"List_Unsubscribe": "<mailto:x@y.example>"},
        {"Return_Path": "<>"},
        {"Subject": "Automatic reply: Your enquiry"},
        {"Subject": "Out of Office AutoReply: Re: Your enquiry"},
        {"Subject": "Out of office"},
        {"Subject": "Auto reply"},
        {"Subject": "Autoreply: x"},
        {"Subject": "Abwesenheitsnotiz: Ihre Anfrage"},
        {"Subject": "Automatische Antwort: Ihre Anfrage"},
        {"Subject": "Réponse automatique : Votre demande"},
        {"Subject": "Respuesta automática: x"},
        {"Subject": "Risposta automatica: x"},
        {"Subject": "Automatisch antwoord: x"},
        {"Subject": "Automatyczna odpowiedź: x"},
        {"Subject": "Автоответ: x"},
        {"Subject": "自動応答: x"},
        {"Subject": "Your enquiry (Out of Office)"},
        {"Content_Type": "multipart/report; report-type=disposition-notification; boundary=b", "body": "--b\n"
         "Content-Type: message/disposition-notification\n\nDisposition: manual-action; displayed\n--b--\n"},
        {"X_Auto_Response_Suppress": "All", "body": "Thank you for your email. I am away until Monday."},
    ],
)  # fmt: skip
def test_what_a_machine_sent_is_known_with_the_evidence(headers):
    body = headers.pop("body", "Dear all")
    assert read(mail(body, **headers)).automated_evidence


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Auto_Submitted": "no"},
        {"Precedence": "bulk"},
        {"Precedence": "list"},
        {"X_Auto_Response_Suppress": "DR, OOF, AutoReply"},
        {"Subject": "Out of office next week?"},
        {"Subject": "Re: Out of Office: Your enquiry"},
        {"Subject": "Automatic replying machines"},
        {"From": "no-reply@forms.example", "Reply_To": "jane@council.example"},
        {"body": "I am out of the office until Monday, but we would like advice."},
    ],
)
def test_what_people_send_is_not_called_automatic(headers):
    body = headers.pop("body", "Dear all")
    assert read(mail(body, **headers), envelope_from="jane@council.example").automated_evidence == ()


def test_an_automatic_reply_is_never_to_be_answered_and_a_list_only_where_it_says_so():
    assert read(mail(Subject="Automatic reply: x")).suppress_reply_evidence
    assert read(mail(X_Autoreply="yes")).suppress_reply_evidence
    assert not read(mail(List_Unsubscribe="<mailto:x@y.example>")).suppress_reply_evidence


def test_the_messages_that_are_answered_are_known():
    read_mail = read(
        mail(In_Reply_To="<a@x.example> (yours)", References="<a@x.example>\n <b@x.example> junk <c d>")
    )
    assert read_mail.in_reply_to == ("<a@x.example>",)
    assert read_mail.references == ("<a@x.example>", "<b@x.example>")
    many = read(mail(References=" ".join(f"<{number}@x.example>" for number in range(300))))
    assert len(many.references) == 100
    assert many.references[-1] == "<299@x.example>"


PASS = "mx.programme.example; dkim=pass header.d=council.example; spf=pass smtp.mailfrom=jane@mail.council.example"


@pytest.mark.parametrize(
    ("results", "domains"),
    [
        (PASS, ("council.example", "mail.council.example")),
        (
            "MX.programme.example 1; dmarc=pass (p=none; dis=none) header.from=Council.Example",
            ("council.example",),
        ),
        ('mx.programme.example; dkim=pass (2048-bit key) header.i="@council.example"', ("council.example",)),
        (
            "mx.programme.example; dkim=fail header.d=council.example; spf=softfail smtp.mailfrom=x.example",
            (),
        ),
        ("mx.programme.example; none", ()),
        ("other.example; dkim=pass header.d=council.example", ()),
        ("other.example (mx.programme.example; dkim=pass header.d=council.example); none", ()),
        ('other.example; x="a; mx.programme.example; dkim=pass header.d=council.example"', ()),
        ("mx.programme.example; dkim=fail (dkim=pass header.d=council.example)", ()),
        ("", ()),
    ],
)
def test_domains_are_taken_from_our_own_servers_word_alone(results, domains):
    raw = mail(**{"Authentication_Results": results})
    assert read(raw, ours=OURS).authenticated_domains == domains
    assert read(raw).authenticated_domains == ()


def test_results_below_the_topmost_run_or_further_than_our_own_server_are_not_believed():
    results = f"Authentication-Results: {PASS}\n".encode()
    received = b"Received: from a by b\n"
    assert read(results + received + mail(), ours=OURS).authenticated_domains
    assert read(received + results + mail(), ours=OURS).authenticated_domains
    assert not read(received * 2 + results + mail(), ours=OURS).authenticated_domains
    other = b"Authentication-Results: mx.programme.example; none\n"
    assert not read(other + received + results + mail(), ours=OURS).authenticated_domains
