"""Tells whether two deliveries are the same message: the pair of Message-ID and content.

Neither half is enough. A Message-ID alone drops real mail, because some senders reuse theirs; the bytes alone
double it, because every hop and every delivery adds fields of its own.
"""

from hashlib import sha256

from services.intake.mail.headers import BLOCK_LIMIT, FIELD, split

# Only what its author wrote is compared. A list of what to ignore would never be complete: every gateway,
# filter and mailing list has fields of its own. To and Cc are left out with the rest: a copy to each of our
# addresses is one enquiry.
AUTHORED = frozenset(
    {
        b"from",
        b"sender",
        b"reply-to",
        b"subject",
        b"date",
        b"in-reply-to",
        b"references",
        b"content-type",
        b"content-transfer-encoding",
        b"content-disposition",
    }
)


def content_digest(raw: bytes) -> bytes:
    """SHA-256 over the authored fields and the body.

    Folding, line endings and blank lines at the end do not count, since servers change them (compare RFC 6376
    section 3.4). Lines of the header that are no field do count: leaving out what is not understood would
    take two messages for one, and lose the second.
    """
    head, body = split(raw)
    head, beyond = head[:BLOCK_LIMIT], head[BLOCK_LIMIT:]
    digest = sha256()
    fields = sorted(
        (name, b" ".join(match[2].split()))
        for match in FIELD.finditer(head)
        if (name := match[1].lower()) in AUTHORED
    )
    for name, value in fields:
        digest.update(b"%b:%b\n" % (name, value))
    digest.update(b"".join(FIELD.sub(b"", head).split()))
    digest.update(beyond + b"\n\n")
    digest.update(body.rstrip())
    return digest.digest()


def mail_id(message_id: str, content: bytes) -> str:
    """The enquiry's id: 32 hexadecimal characters (128 bits), the same for every delivery of one message."""
    return sha256(b"mail\n%b\n%b" % (message_id.encode(), content)).hexdigest()[:32]
