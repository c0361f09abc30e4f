"""Notifications, put together."""

from fastapi import FastAPI

from services.notifications.domain import Notification, Outcome, due
from services.notifications.handlers import Desk, hears
from services.notifications.sender import Sender
from services.notifications.settings import NotificationsSettings
from services.notifications.smtp import Mailer
from shared.service import Service, run
from shared.store import Aggregates


def tell(notification: Notification) -> str:
    """One line for a timeline. Addresses are left to those who may see the mail itself."""
    line = (
        f"{notification.content.template}: {notification.status} after {notification.attempts_made} attempts"
    )
    return f"{line} ({notification.failed_because})" if notification.failed_because else line


def app() -> FastAPI:
    settings = NotificationsSettings()
    service = Service(hears, settings)
    notifications: Aggregates[Notification, Outcome] = service.store.aggregates(
        "notifications", Notification, lambda *_: [], due=due, tell=tell, remember=1_000
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
    desk = Desk(notifications, sender, letterhead, service.clock)
    return service.app(provide={"desk": desk}, running=[sender])


if __name__ == "__main__":
    run("services.notifications.app:app", NotificationsSettings)
