"""What our mail carries so that an answer to it finds its enquiry: a signed reply address and Message-ID.

Notifications writes them, intake reads them, and nobody looks anything up in the other's store. A token names
the reference, the part its holder plays, and prints of the address it was given to; an HMAC (RFC 2104, SHA-256,
80 bits) makes it something that can be held but not made up. Everything is letters and digits whose case does not
matter, since some mail systems fold the case of addresses.
"""

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Party = Literal["enquirer", "partner", "mentor", "mentee", "operator"]
"""The part somebody plays in an enquiry: a mentee is the enquirer where a session is what they were written about."""

LETTERS: dict[Party, str] = {"enquirer": "e", "partner": "p", "mentor": "m", "mentee": "s", "operator": "o"}
PARTIES = {letter: party for party, letter in LETTERS.items()}

_TOKEN = (
    r"(?P<token>(?P<reference>[0-9a-z]{6})(?P<letter>[epmso])(?P<address>[0-9a-f]{4})(?P<domain>[0-9a-f]{4}))"  # noqa: S105
)
_MAC = r"(?P<mac>[0-9a-f]{20})"
_REPLY_ADDRESS = re.compile(rf"reply\+{_TOKEN}\.{_MAC}@[^@\s]+")
_MESSAGE_ID = re.compile(rf"<n\.(?P<notification>[0-9a-f]{{32}})\.{_TOKEN}\.{_MAC}@[^@\s<>]+>")

REPLY_MAILBOX = "reply"
"""The local part of every reply address, before its `+`."""


@dataclass(frozen=True, slots=True)
class Signed:
    """What a valid token says. `notification` is the mail of ours it was in, where the token came in a Message-ID.

    The prints tell, with a chance of error of 1 in 65,536, whether an address or its domain is the one the token
    was given to.
    """

    reference: str
    party: Party
    address_print: str
    domain_print: str
    notification: str = ""


class Replies:
    """Signs and reads. The first key signs; all of them are believed, so that keys can be changed in turn."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys or not all(keys):
            raise ValueError("a reply key is needed, and none may be empty")
        self._keys = [key.encode() for key in keys]

    def address(self, reference: str, party: Party, recipient: str, domain: str) -> str:
        """Where `recipient`, who plays the part of `party`, is to answer mail about `reference`."""
        token = self._token(reference, party, recipient)
        return f"{REPLY_MAILBOX}+{token}.{self._mac('reply', token)}@{domain}"

    def message_id(self, notification: str, reference: str, party: Party, recipient: str, domain: str) -> str:
        """The Message-ID, in angle brackets, of our mail `notification` (32 hexadecimal characters)."""
        token = self._token(reference, party, recipient)
        return f"<n.{notification}.{token}.{self._mac(notification, token)}@{domain}>"

    def read_address(self, address: str) -> Signed | None:
        """None for what is no reply address of ours, or was never signed by us."""
        found = _REPLY_ADDRESS.fullmatch(address.lower())
        return self._checked(found, "reply", "") if found else None

    def read_message_id(self, message_id: str) -> Signed | None:
        """The same for a Message-ID in its angle brackets."""
        found = _MESSAGE_ID.fullmatch(message_id.lower())
        return self._checked(found, found["notification"], found["notification"]) if found else None

    def wrote_to(self, signed: Signed, address: str) -> bool:
        """Whether the token was given to this address."""
        return any(_print(key, address) == signed.address_print for key in self._keys)

    def wrote_to_domain_of(self, signed: Signed, address: str) -> bool:
        """Whether it was given to an address in the same domain."""
        return any(_print(key, _domain(address)) == signed.domain_print for key in self._keys)

    def _token(self, reference: str, party: Party, recipient: str) -> str:
        short = reference.removeprefix("MSP-").replace("-", "").lower()
        prints = _print(self._keys[0], recipient) + _print(self._keys[0], _domain(recipient))
        return f"{short}{LETTERS[party]}{prints}"

    def _mac(self, purpose: str, token: str) -> str:
        return _hashed(self._keys[0], f"{purpose}/{token}", 20)

    def _checked(self, found: re.Match[str], purpose: str, notification: str) -> Signed | None:
        signed = f"{purpose}/{found['token']}"
        if not any(hmac.compare_digest(_hashed(key, signed, 20), found["mac"]) for key in self._keys):
            return None
        short = found["reference"].upper()
        return Signed(
            reference=f"MSP-{short[:4]}-{short[4:]}",
            party=PARTIES[found["letter"]],
            address_print=found["address"],
            domain_print=found["domain"],
            notification=notification,
        )


def _domain(address: str) -> str:
    return "@" + address.rpartition("@")[2]


def _print(key: bytes, text: str) -> str:
    return _hashed(key, f"print/{text.lower()}", 4)


def _hashed(key: bytes, text: str, characters: int) -> str:
    return hmac.digest(key, text.encode("utf-8", "replace"), "sha256").hex()[:characters]
