"""Reads an RFC 5322 message into what an enquiry needs, and never raises whatever the message is.

Headers are scanned from the raw bytes, so that they are readable even where the body is not, and parts are found
by their places in them. The standard library's parser takes ten times as long and its modern policy raises on
about one mail in a hundred.
"""

from services.intake.mail.attachments import Attachment
from services.intake.mail.bounces import FailedRecipient
from services.intake.mail.identity import content_digest, mail_id
from services.intake.mail.reading import (
    UNKNOWN_ADDRESS,
    Ours,
    ReadMail,
    attachment_bytes,
    is_large,
    read,
)

__all__ = [
    "UNKNOWN_ADDRESS",
    "Attachment",
    "FailedRecipient",
    "Ours",
    "ReadMail",
    "attachment_bytes",
    "content_digest",
    "is_large",
    "mail_id",
    "read",
]
