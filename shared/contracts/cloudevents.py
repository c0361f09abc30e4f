"""The envelope every event travels in: CloudEvents 1.0, JSON, structured mode.

Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md; `correlationid` and
`causationid` are extension attributes, lower case as the specification asks.
"""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

CONTENT_TYPE = "application/cloudevents+json"

EVENT_TYPES: dict[str, type["CloudEvent"]] = {}
"""Every event of every module imported so far, by its written type."""

Identifier = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Reference = Annotated[str, StringConstraints(pattern=r"^MSP-[0-9A-Z]{4}-[0-9A-Z]{2}$")]
EmailAddress = Annotated[str, StringConstraints(min_length=3, max_length=320)]


class Contract(BaseModel):
    """A frozen part of an event. Unknown fields are ignored, so a newer publisher may add optional ones."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class CloudEvent(Contract):
    """One past fact.

    A subclass fixes `type` and `source` as literals and gives `data` its shape. `id` is unique for ever
    and is the idempotency key of every consumer. `correlationid` is the enquiry; `causationid` is the
    message that led to this one; `acceptedat` is when the enquiry came in, so that every stage can tell
    its age. `time` is when it happened, in UTC.
    """

    specversion: Literal["1.0"] = "1.0"
    id: Identifier
    source: str
    type: str
    subject: Identifier
    time: AwareDatetime
    datacontenttype: Literal["application/json"] = "application/json"
    correlationid: Identifier
    causationid: Identifier
    acceptedat: AwareDatetime | None = None
    data: Any

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        if not cls.model_fields["type"].is_required():  # else it is a shape that events share
            EVENT_TYPES[cls.event_type()] = cls

    @classmethod
    def event_type(cls) -> str:
        """The written name and version, such as `enquiry.received.v1`; the routing key begins with it."""
        return str(cls.model_fields["type"].default)

    @classmethod
    def binding_key(cls) -> str:
        """What a queue is bound with that is to hold every event of this type."""
        return cls.event_type()

    @property
    def routing_key(self) -> str:
        return self.type

    @classmethod
    def publisher(cls) -> str:
        """The service that says this event; its exchange has the same name."""
        return str(cls.model_fields["source"].default).removeprefix("/")


class Person(Contract):
    """Somebody who is written to. `name` may be empty: many people's mail carries none."""

    name: Annotated[str, Field(max_length=200)] = ""
    address: EmailAddress
