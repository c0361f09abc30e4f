"""Notifications, put together."""

from fastapi import FastAPI

from services.notifications.budget import Budgets
from services.notifications.desk import Desk, Notifications
from services.notifications.domain import Notification, due, tell
from services.notifications.handlers import hears
from services.notifications.sender import Sender
from services.notifications.settings import NotificationsSettings
from services.notifications.smtp import Mailer
from shared.service import Service, run


def app() -> FastAPI:
    settings = NotificationsSettings()
    service = Service(hears, settings)
    notifications: Notifications = service.store.aggregates(
        "notifications",
        Notification,
        lambda *_: [],
        claims=lambda notification: notification.charges,
        due=due,
        tell=tell,
        remember=1_000,
    )
    letterhead = settings.letterhead()
    mailer = Mailer(settings.server(), settings.limits())
    sender = Sender(
        notifications,
        mailer,
        letterhead,
        settings.backoff(),
        service.clock,
        workers=2 * settings.connections,  # a worker also waits for its attempt to be durable
        stop_within=settings.stop_within,
    )
    service.store.on_due("notifications", sender.on_due, sender.lease)
    desk = Desk(notifications, sender, letterhead, Budgets(settings.budgets()), service.clock)
    return service.app(provide={"desk": desk}, running=[sender])


if __name__ == "__main__":
    run("services.notifications.app:app", NotificationsSettings)
