"""What intake says: an enquiry has been accepted or goes on, a mail of ours came back, a machine answered one,
or a message waits for an operator."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from shared.contracts.cloudevents import CloudEvent, Contract, EmailAddress, Person, Reference
from shared.contracts.replies import Party

Text = Annotated[str, Field(max_length=200_000)]


class AttachedFile(Contract):
    """A file that came with a message. `danger` says why opening it would be unsafe, or nothing; `size` is in
    bytes. The file itself stays with intake."""

    name: Annotated[str, Field(max_length=300)]
    media_type: Annotated[str, Field(max_length=200)]
    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(max_length=64)]
    danger: Annotated[str, Field(max_length=300)] = ""


class ReceivedEnquiry(Contract):
    """An enquiry as it came in.

    `text` is readable plain text, cut at 200,000 characters (`text_cut` says so; intake keeps the whole).
    `message_id` is the RFC 5322 Message-ID with its angle brackets, or empty if the message had none.
    `suppress_reply` asks that nothing automatic answers (RFC 3834), with the evidence. Added later, and None
    where there is nothing to say: `new_text`, the text without quoted replies and signature, where that is not
    all of it; `automated_evidence`, why a machine is thought to have sent it; `attachments`.
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
    new_text: Text | None = None
    automated_evidence: tuple[str, ...] | None = None
    attachments: tuple[AttachedFile, ...] | None = None


class EnquiryReceived(CloudEvent):
    source: Literal["/intake"] = "/intake"
    type: Literal["enquiry.received.v1"] = "enquiry.received.v1"
    data: ReceivedEnquiry


class FollowedUpEnquiry(Contract):
    """A further message about an enquiry, from somebody who is part of it.

    `party` is the part the writer plays. `new_text` is what they wrote, `text` all of the message, quoted replies
    included; both cut at 200,000 characters (`text_cut`; intake keeps the whole). `added_by` names the operator who
    decided that it belongs here, where one did. The rest is as in `ReceivedEnquiry`.
    """

    reference: Reference
    party: Party
    author: Person
    subject: Annotated[str, Field(max_length=1_000)]
    new_text: Text
    text: Text
    text_cut: bool = False
    attachments: tuple[AttachedFile, ...] = ()
    message_id: Annotated[str, Field(max_length=1_000)] = ""
    accepted_at: AwareDatetime
    suppress_reply: bool = False
    suppress_reply_evidence: tuple[str, ...] = ()
    added_by: Annotated[str, Field(max_length=100)] = ""


class EnquiryFollowedUp(CloudEvent):
    source: Literal["/intake"] = "/intake"
    type: Literal["enquiry.followed-up.v1"] = "enquiry.followed-up.v1"
    data: FollowedUpEnquiry


class FailedDelivery(Contract):
    """One address a mail could not be delivered to. `permanent` is None where the report does not tell, false
    where the server still tries; `status` is RFC 3463's (`5.1.1`), or nothing; `diagnostic` the server's words."""

    address: Annotated[str, Field(max_length=320)]
    permanent: bool | None = None
    status: Annotated[str, Field(max_length=20)] = ""
    diagnostic: Annotated[str, Field(max_length=1_000)] = ""


class BouncedMail(Contract):
    """A report that mail was not delivered. Which of ours, as far as the report tells: `notification` by its
    Message-ID, `reference` and `party` by that or by the address it came back to; None where nothing tells."""

    failed: tuple[FailedDelivery, ...]
    evidence: tuple[str, ...]
    accepted_at: AwareDatetime
    reference: Reference | None = None
    party: Party | None = None
    notification: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None


class MailBounced(CloudEvent):
    source: Literal["/intake"] = "/intake"
    type: Literal["mail.bounced.v1"] = "mail.bounced.v1"
    data: BouncedMail


class AutoRepliedMail(Contract):
    """A machine answered a mail of ours, such as an out-of-office reply. The fields are as in `BouncedMail`."""

    reference: Reference
    party: Party | None = None
    notification: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None
    author: EmailAddress
    subject: Annotated[str, Field(max_length=1_000)]
    evidence: tuple[str, ...]
    accepted_at: AwareDatetime


class MailAutoReplied(CloudEvent):
    source: Literal["/intake"] = "/intake"
    type: Literal["mail.auto-replied.v1"] = "mail.auto-replied.v1"
    data: AutoRepliedMail


class HeldMail(Contract):
    """A message that waits for an operator to say what it is. `reason` is a stable code and `why` the sentence an
    operator reads; `candidates` are the references it may belong to; `message` is its id at intake."""

    message: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    reason: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    why: str
    candidates: tuple[Reference, ...] = ()
    author: Person
    subject: Annotated[str, Field(max_length=1_000)]
    accepted_at: AwareDatetime


class MailHeld(CloudEvent):
    source: Literal["/intake"] = "/intake"
    type: Literal["mail.held.v1"] = "mail.held.v1"
    data: HeldMail
