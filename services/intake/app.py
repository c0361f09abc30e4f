"""Intake, put together."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI

from services.intake.acceptance import Acceptance, Messages
from services.intake.api import enquiries
from services.intake.domain import Message, claims, tell
from services.intake.events import announce
from services.intake.handlers import hears
from services.intake.held import HeldMessages
from services.intake.imap import Mailbox, watched
from services.intake.keys import Keys
from services.intake.operators import held_routes, key_routes, message_routes
from services.intake.rereading import Rereading
from services.intake.settings import IntakeSettings
from services.intake.smtp import Listener, Protocol
from shared.contracts.intake import (
    EnquiryFollowedUp,
    EnquiryReceived,
    MailAutoReplied,
    MailBounced,
    MailHeld,
)
from shared.operators import guard
from shared.service import Service, run


@asynccontextmanager
async def listening(listener: Listener, host: str, port: int) -> AsyncIterator[None]:
    await listener.start(host, port)
    try:
        yield
    finally:
        await listener.stop()


def app() -> FastAPI:
    settings = IntakeSettings()
    service = Service(
        hears,
        settings,
        says=[EnquiryReceived, EnquiryFollowedUp, MailBounced, MailAutoReplied, MailHeld],
    )
    messages: Messages = service.store.aggregates(
        "messages",
        Message,
        announce,
        claims=claims,
        tell=tell,
        joins="state.enquiry",
        marks=["state.held"],
    )
    accept = Acceptance(service.store, messages, service.clock, settings.trust())
    ports: dict[Protocol, int | None] = {"smtp": settings.smtp_port, "lmtp": settings.lmtp_port}
    ways_in: list[AbstractAsyncContextManager[None]] = [
        listening(Listener(accept, settings.listener(protocol)), settings.smtp_host, port)
        for protocol, port in ports.items()
        if port is not None
    ]
    if mailbox := settings.mailbox():
        ways_in.append(watched(Mailbox(accept, mailbox)))
    keys = Keys(service.store, service.clock)
    api = enquiries(accept, accept.find, keys.holder, settings.api())
    token = guard(settings.operator_token)
    operators = [
        key_routes(keys, token),
        held_routes(HeldMessages(messages, accept), token),
        message_routes(Rereading(service.store, messages, accept, settings.ours()), token),
    ]
    return service.app(provide={}, routes=[api, *operators], running=ways_in)


if __name__ == "__main__":
    run("services.intake.app:app", IntakeSettings)
