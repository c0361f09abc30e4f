"""The table of all that one service hears: one short function for each event."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from shared.contracts.cloudevents import CloudEvent

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[None]])


@dataclass(frozen=True, slots=True)
class Subscription:
    """One queue: which event it holds, who says it, and the function that takes it."""

    queue: str
    kind: type[CloudEvent]
    handler: Callable[..., Awaitable[Any]]
    prefetch: int


class Hears:
    """Collects a service's handlers: `hears = Hears("triage")`, then `@hears(EnquiryReceived)`.

    The queue's name follows from the service and the event family: `triage.enquiry-received`. A handler takes
    the event first; its other parameters are the things named alike in the service's composition.
    """

    def __init__(self, service: str) -> None:
        self.service = service
        self.subscriptions: list[Subscription] = []

    def __call__(self, kind: type[CloudEvent], *, prefetch: int = 100) -> Callable[[Handler], Handler]:
        family = kind.event_type().rsplit(".", 1)[0].replace(".", "-")

        def register(handler: Handler) -> Handler:
            self.subscriptions.append(Subscription(f"{self.service}.{family}", kind, handler, prefetch))
            return handler

        return register
