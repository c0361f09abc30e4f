"""Which addresses a mail server can be asked to deliver to, and how they are written for it."""

import re

import idna

# RFC 5321 §4.1.2, without quoted local parts: nobody has one, and what they may hold (spaces, angle brackets)
# has been used to smuggle SMTP parameters past servers that read them carelessly.
_LOCAL_PART = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+)*"
)
_ASCII_DOMAIN = re.compile(
    r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)


class UnusableAddress(ValueError):
    """No mail server could be asked to deliver to this address; the message says why and does not repeat
    it."""


def envelope_address(address: str) -> str:
    """`address` as it is given to a mail server: the domain in its ASCII form (IDNA 2008, RFC 5891), the
    local part as it stands. Raises `UnusableAddress`."""
    local, at, domain = address.strip().rpartition("@")
    if not at or not local or not domain:
        raise UnusableAddress("The address is not of the form name@domain.")
    if not _LOCAL_PART.fullmatch(local) or not local.isprintable():
        raise UnusableAddress("The part of the address before @ holds characters that mail cannot carry.")
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode("ascii")
        except UnicodeError as error:
            raise UnusableAddress("The domain of the address is not a valid international name.") from error
    if not _ASCII_DOMAIN.fullmatch(domain):
        raise UnusableAddress("The domain of the address is not a name that mail can be sent to.")
    usable = f"{local}@{domain.lower()}"
    # RFC 5321 §4.5.3.1.1 to .3; the path's 256 octets include its angle brackets.
    if len(local.encode()) > 64 or len(usable.encode()) > 254:
        raise UnusableAddress("The address is longer than mail allows.")
    return usable
