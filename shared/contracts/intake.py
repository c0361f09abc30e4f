"""What intake says: an enquiry has been accepted."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from shared.contracts.cloudevents import CloudEvent, Contract, Person, Reference

Text = Annotated[str, Field(max_length=200_000)]


class ReceivedEnquiry(Contract):
    """An enquiry as it came in.

    `text` is readable plain text, cut at 200,000 characters (`text_cut` says so; intake keeps the whole).
    `message_id` is the RFC 5322 Message-ID with its angle brackets, or empty if the message had none.
    `suppress_reply` asks that nothing automatic answers (RFC 3834), with the evidence.
    """

    reference: Reference
    sender: Person
    subject: Annotated[str, Field(max_length=1_000)]
    text: Text
    text_cut: bool = False
    message_id: Annotated[str, Field(max_length=1_000)] = ""
    accepted_at: AwareDatetime
    via: Literal["smtp", "lmtp", "http-message", "http-form"]
    suppress_reply: bool = False
    suppress_reply_evidence: tuple[str, ...] = ()


class EnquiryReceived(CloudEvent):
    source: Literal["/intake"] = "/intake"
    type: Literal["enquiry.received.v1"] = "enquiry.received.v1"
    data: ReceivedEnquiry
