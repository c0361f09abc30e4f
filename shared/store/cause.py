"""What leads to a change, and what the change leads to: the ids that make every step idempotent."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID, uuid5

from shared.contracts.cloudevents import CONTENT_TYPE, CloudEvent, Contract

EVENT_IDS = UUID("6a0c7f0e-3b64-5d0f-9b38-5d1f3a7b6e21")

E = TypeVar("E", bound=CloudEvent)


class Message(Protocol):
    """Anything that can lead to a change; a `CloudEvent` is one. `id` is the idempotency key."""

    @property
    def id(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def correlationid(self) -> str: ...
    @property
    def acceptedat(self) -> datetime | None: ...


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message that did not come from the broker: a mail, a web form, a timer, an operator's command."""

    id: str
    type: str
    correlationid: str
    acceptedat: datetime | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One entry of an outbox: a message and where it goes. `id` is unique in the outbox."""

    id: str
    type: str
    exchange: str
    routing_key: str
    body: bytes
    message_id: str
    correlation_id: str
    content_type: str = CONTENT_TYPE
    headers: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, event: CloudEvent) -> "Outgoing":
        return cls(
            id=event.id,
            type=event.type,
            exchange=event.publisher(),
            routing_key=event.routing_key,
            body=event.model_dump_json(exclude_none=True).encode(),
            message_id=event.id,
            correlation_id=event.correlationid,
        )


@dataclass(frozen=True, slots=True)
class Cause:
    """The message being taken, by which aggregate, and when: all a decision's events need for their envelope."""

    message_id: str
    correlation_id: str
    aggregate_id: str
    now: datetime
    accepted_at: datetime | None = None

    def event(self, kind: type[E], data: Contract, nth: int = 0) -> E:
        """The event of this `kind`. Its id follows from the cause, so deciding twice says the same thing once.

        `nth` tells apart several events of one kind from one message and aggregate.
        """
        name = f"{self.message_id}|{kind.event_type()}|{self.aggregate_id}|{nth}"
        return kind.model_validate(
            {
                "id": str(uuid5(EVENT_IDS, name)),
                "subject": self.aggregate_id,
                "time": self.now,
                "correlationid": self.correlation_id,
                "causationid": self.message_id,
                "acceptedat": self.accepted_at,
                "data": data,
            }
        )
