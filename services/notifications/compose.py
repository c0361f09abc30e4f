"""Turns a notification into the bytes of a message that any mail server will take: text, HTML, headers,
invitation.

The message is put together here rather than by `email.message.EmailMessage`, which needs 2.7 ms for an
acknowledgement (measured); this needs about a fifteenth of it. The price is that this module alone answers
for RFC 5322 and MIME, so the tests read everything it makes with the standard library's parser. Nothing
written by a stranger reaches a header except through `clean_line` and an encoder.
"""

import binascii
import re
from base64 import b64encode, encodebytes
from dataclasses import dataclass
from email.utils import format_datetime
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, TemplateError

from services.notifications.addresses import UnusableAddress, envelope_address
from services.notifications.content import TEMPLATE_VERSIONS, SessionInvitation
from services.notifications.domain import Letterhead, Notification, Unsendable
from services.notifications.invitation import invitation, session_time
from services.notifications.wording import (
    clean_line,
    listed,
    person_line,
    plain_body,
    plain_line,
    presentable_name,
    spoken,
    uk_time,
)

SUBJECT_LIMIT = 180


@dataclass(frozen=True)
class Letter:
    """A message ready to be sent. `message` ends its lines with CRLF and is 7-bit, except that addresses
    which are not ASCII stand in it as UTF-8 (RFC 6532) and need a server with SMTPUTF8."""

    message: bytes
    sender: str
    recipient: str


def compose(notification: Notification, letterhead: Letterhead) -> Letter | Unsendable:
    """The message for `notification`: the same bytes at every attempt, for nothing in it comes from the
    clock."""
    try:
        sender = envelope_address(letterhead.sender.address)
        recipient = envelope_address(notification.recipient.address)
        # Bounces and many automatic answers go to the envelope's sender, and often quote nothing of the mail.
        returns_to = notification.reply_to or sender
        return Letter(_message(notification, letterhead, sender, recipient), returns_to, recipient)
    except UnusableAddress as unusable:
        return Unsendable(str(unusable))
    except (TemplateError, ValueError, KeyError, OverflowError, OSError) as error:
        # A template that asks for what is not there, a time zone nobody knows: it will be no better in an
        # hour, so the notification fails where an operator sees it instead of returning for ever.
        return Unsendable(f"No message could be made of it: {type(error).__name__}: {error}")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),  # noqa: S701 - by name
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "body": plain_body,
        "line": plain_line,
        "listed": listed,
        "person": person_line,
        "session_time": session_time,
        "spoken": spoken,
        "uk_time": uk_time,
    }
    return environment


def _templates() -> dict[str, tuple[Template, Template, Template]]:
    environment = _environment()

    def load(name: str) -> Template:
        template = environment.get_template(name)
        # Jinja2 (3.1) copies these for every mail, and copying the ChainMap they are is a fifth of a mail.
        template.globals = dict(template.globals)
        return template

    return {
        name: (load(f"{name}.subject.j2"), load(f"{name}.txt.j2"), load(f"{name}.html.j2"))
        for name in TEMPLATE_VERSIONS
    }


# All of them, at import: a missing or broken template stops the service from starting, not one mail at night.
_TEMPLATES = _templates()


# The message ------------------------------------------------------------------------------------------------


def _message(notification: Notification, letterhead: Letterhead, sender: str, recipient: str) -> bytes:
    content = notification.content
    words = {
        "content": content,
        "greeting": presentable_name(notification.recipient.name),
        "programme": letterhead.programme,
        "reference": notification.reference,
    }
    subject, text, html = (template.render(words) for template in _TEMPLATES[content.template])
    alternatives = [_text_part("plain", text), _text_part("html", html)]
    attachments = []
    if isinstance(content, SessionInvitation):
        calendar = invitation(notification, content, letterhead)
        alternatives.append(
            _part('Content-Type: text/calendar; charset="utf-8"; method=REQUEST', _base64(calendar), "base64")
        )
        # Some readers act on the part, some only on the file, and Outlook shows two invitations when both are
        # text/calendar; hence this type, as Google Calendar sends it.
        attachments.append(
            _part(
                'Content-Type: application/ics; name="invite.ics"\r\n'
                'Content-Disposition: attachment; filename="invite.ics"',
                _base64(calendar),
                "base64",
            )
        )
    content_type, body = _multipart("alternative", f"=_a{notification.id}", alternatives)
    if attachments:
        content_type, body = _multipart(
            "mixed", f"=_m{notification.id}", [_part_of(content_type, body), *attachments]
        )
    headers = _headers(
        notification,
        letterhead,
        subject=subject,
        sender=sender,
        recipient=recipient,
        content_type=content_type,
    )
    return headers + body


def _headers(
    notification: Notification,
    letterhead: Letterhead,
    *,
    subject: str,
    sender: str,
    recipient: str,
    content_type: str,
) -> bytes:
    # The thread's own root, which no message bears: readers join messages that name the same ancestor, so all
    # mail about one enquiry stays together for everybody who gets some of it (RFC 5322 §3.6.4; the parent
    # stands last).
    ancestors = f"<case.{_token(notification.enquiry_id)}@{letterhead.domain}>"
    threading = f"References: {ancestors}\r\n"
    if notification.in_reply_to:
        parent = notification.in_reply_to
        threading = f"In-Reply-To: {parent}\r\nReferences: {ancestors}\r\n {parent}\r\n"
    reply_to = f"Reply-To: {notification.reply_to}\r\n" if notification.reply_to else ""
    answer = notification.content.template == "acknowledgement"
    return (
        f"From: {_mailbox(clean_line(letterhead.sender.name, 60), sender)}\r\n"
        f"{reply_to}"
        f"To: {_mailbox(presentable_name(notification.recipient.name), recipient)}\r\n"
        # Never the enquirer's own subject: an answer that repeats what it was sent can be used to send it on.
        f"Subject: {_unstructured(clean_line(subject, SUBJECT_LIMIT))}\r\n"
        f"Date: {format_datetime(notification.created_at)}\r\n"
        f"Message-ID: {notification.message_id}\r\n"
        f"{threading}"
        # RFC 3834 §5: so that no other machine answers. Exchange heeds only its own header; bounces are not
        # named in it, because we want those.
        f"Auto-Submitted: {'auto-replied' if answer else 'auto-generated'}\r\n"
        "X-Auto-Response-Suppress: OOF, AutoReply\r\n"
        "MIME-Version: 1.0\r\n"
        f"{content_type}\r\n\r\n"
    ).encode()


def _mailbox(name: str, address: str) -> str:
    if not name:
        return address
    if name.isascii() and "=?" not in name:
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"\r\n <{address}>'
    return f"{_encoded_words(name)}\r\n <{address}>"


def _unstructured(text: str) -> str:
    return text if text.isascii() and "=?" not in text else _encoded_words(text)


def _encoded_words(text: str) -> str:
    """RFC 2047 encoded words of at most 75 characters, one a line, none cutting a character in two."""
    words, chunk = [], b""
    for character in text:
        encoded = character.encode("utf-8", "replace")
        if len(chunk) + len(encoded) > 45:
            words.append(chunk)
            chunk = b""
        chunk += encoded
    words.append(chunk)
    return "\r\n ".join(f"=?utf-8?b?{b64encode(word).decode('ascii')}?=" for word in words)


def _token(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9-]{1,64}", text) else sha256(text.encode()).hexdigest()[:32]


# Boundaries begin with "=_", which neither quoted-printable nor base64 can contain (RFC 2045 §6.7), so no
# text of a stranger's can end a part early.


def _multipart(kind: str, boundary: str, parts: list[bytes]) -> tuple[str, bytes]:
    line = f"--{boundary}".encode()
    body = b"".join(line + b"\r\n" + part + b"\r\n" for part in parts) + line + b"--\r\n"
    return f'Content-Type: multipart/{kind};\r\n boundary="{boundary}"', body


def _part_of(content_type: str, body: bytes) -> bytes:
    return content_type.encode() + b"\r\n\r\n" + body


def _part(headers: str, body: bytes, encoding: str) -> bytes:
    return f"{headers}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode() + body


def _text_part(subtype: str, text: str) -> bytes:
    plain = text.encode("utf-8", "replace").replace(b"\n", b"\r\n") + b"\r\n"
    header = f'Content-Type: text/{subtype}; charset="utf-8"'
    # Ends with CRLF always, for b2a_qp takes its line ending from the text it is given.
    printable = binascii.b2a_qp(plain, istext=True)
    if len(printable) * 3 > len(plain) * 4:
        return _part(header, _base64(plain), "base64")
    return _part(header, printable, "quoted-printable")


def _base64(raw: bytes) -> bytes:
    return encodebytes(raw).replace(b"\n", b"\r\n")
