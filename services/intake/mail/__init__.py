"""Reads an RFC 5322 message into what an enquiry needs, and never raises whatever the message is.

Headers are scanned from the raw bytes, so that they are readable even where the body is not; the standard
library's parser is asked once, for the body's structure alone. Its modern policy raises on about one mail
in a hundred and takes thirteen times as long.
"""

from services.intake.mail.identity import content_digest, mail_id
from services.intake.mail.reading import (
    UNKNOWN_ADDRESS,
    Attachment,
    FailedRecipient,
    Ours,
    ReadMail,
    is_large,
    read,
)

__all__ = [
    "UNKNOWN_ADDRESS",
    "Attachment",
    "FailedRecipient",
    "Ours",
    "ReadMail",
    "content_digest",
    "is_large",
    "mail_id",
    "read",
]
