"""Makes what comes in, by whichever way, into the one thing intake decides about."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from services.intake.domain import ArrivedMail, Outcome, Via
from services.intake.mail import Ours, ReadMail, content_digest, is_large, mail_id, read
from services.intake.mail.automatic import address_evidence
from services.intake.mail.body import TEXT_LIMIT
from services.intake.mail.charsets import storable
from services.intake.mail.headers import cleaned, is_address
from shared.contracts.cloudevents import Person

Accept = Callable[[ArrivedMail], Awaitable[Outcome]]
"""Accepts what arrived: returns only when it is durable, and raises `Unavailable` where that cannot be had.

Every way in says yes only after this has returned.
"""


def arrived_mail(
    raw: bytes,
    *,
    via: Via,
    ours: Ours,
    peer: str = "",
    mail_from: str | None = None,
    rcpt_tos: tuple[str, ...] = (),
) -> ArrivedMail:
    """Read a raw message. Pure and never raises; takes time in proportion to its size."""
    mail = read(raw, envelope_from=mail_from, ours=ours)
    content = content_digest(raw)
    return ArrivedMail(
        id=mail_id(mail.message_id, content),
        fingerprint=content.hex(),
        raw=raw,
        raw_sha256=sha256(raw).hexdigest(),
        via=via,
        read=mail,
        peer=peer,
        mail_from=mail_from,
        rcpt_tos=rcpt_tos,
    )


async def arriving_mail(
    raw: bytes,
    *,
    via: Via,
    ours: Ours,
    peer: str = "",
    mail_from: str | None = None,
    rcpt_tos: tuple[str, ...] = (),
) -> ArrivedMail:
    """The same, with large messages read in a thread, so that other clients are served meanwhile."""
    if is_large(raw):
        return await asyncio.to_thread(
            arrived_mail, raw, via=via, ours=ours, peer=peer, mail_from=mail_from, rcpt_tos=rcpt_tos
        )
    return arrived_mail(raw, via=via, ours=ours, peer=peer, mail_from=mail_from, rcpt_tos=rcpt_tos)


def _address(value: str) -> str:
    if not is_address(value):
        raise ValueError("this is not an email address")
    return value


Line = Annotated[str, AfterValidator(cleaned), StringConstraints(strip_whitespace=True)]


class EnquiryForm(BaseModel):
    """An enquiry from a web form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[Line, Field(min_length=1, max_length=200)]
    email: Annotated[Line, Field(min_length=3, max_length=320), AfterValidator(_address)]
    organisation: Annotated[Line, Field(max_length=200)] = ""
    subject: Annotated[Line, Field(min_length=1, max_length=500)]
    message: Annotated[str, AfterValidator(storable), Field(min_length=1, max_length=TEXT_LIMIT - 1_000)]


def arrived_form(
    form: EnquiryForm, raw: bytes, *, client: str, key: str, ours: Ours, peer: str = ""
) -> ArrivedMail:
    """A form is known by the idempotency `key` its client chose; `client` keeps the keys of two apart.

    `raw` is the request's body, kept as it came. See draft-ietf-httpapi-idempotency-key-header.
    """
    canonical = json.dumps(form.model_dump(), sort_keys=True, ensure_ascii=False).encode()
    text = f"{form.message}\n\nOrganisation: {form.organisation}" if form.organisation else form.message
    return ArrivedMail(
        id=sha256(json.dumps(["form", client, key]).encode()).hexdigest()[:32],
        fingerprint=sha256(canonical).hexdigest(),
        raw=raw,
        raw_sha256=sha256(raw).hexdigest(),
        via="http-form",
        read=ReadMail(
            sender=Person(name=form.name, address=form.email),
            author=form.email,
            subject=form.subject,
            message_id="",
            text=text,
            suppress_reply_evidence=tuple(address_evidence(form.email, ours.addresses)),
        ),
        peer=peer,
    )


def where(error: BaseException) -> str:
    """The place in the code an error came from. Its message is not logged: it may quote the mail."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}" if trace else ""
