"""The links by which partners answer offers: each is good for one offer and one partner, and can't be guessed."""

import hashlib
from collections.abc import Sequence

from itsdangerous import BadSignature, Signer

from services.triage.offers import Offer


class Links:
    """Makes and reads signed links. The first of `keys` signs; all of them are believed, so that keys can be
    changed in turn. A link ends with its offer: that is judged by the case, not by the link."""

    def __init__(self, keys: Sequence[str], public_url: str) -> None:
        self._signer = Signer(  # the library signs with the last
            list(reversed(keys)), salt="triage.offer", key_derivation="hmac", digest_method=hashlib.sha256
        )
        self._public_url = public_url.rstrip("/")

    def token(self, offer: Offer) -> str:
        return self._signer.sign(f"{offer.id}~{offer.partner}").decode()

    def url(self, offer: Offer) -> str:
        return f"{self._public_url}/offers/{self.token(offer)}"

    def read(self, token: str) -> tuple[str, str] | None:
        """Offer and partner of a link that we made, or None."""
        try:
            offer_id, _, partner = self._signer.unsign(token).decode().partition("~")
        except (BadSignature, UnicodeError):
            return None
        return offer_id, partner
