"""API keys of HTTP clients: named, kept as a hash, revoked at once.

A key is 256 random bits made by whoever asks for one (`python -m services.intake.cli keys create`); only its
SHA-256 comes here. Slow hashes are for what people can remember: nobody finds such a key by trying.
"""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Literal, assert_never
from uuid import uuid4

from pydantic import BaseModel, ConfigDict

from shared.clock import Clock
from shared.contracts.cloudevents import CloudEvent
from shared.store import Aggregates, Cause, ClaimTaken, Incoming, Store

LISTED = 1_000


class ApiKey(BaseModel):
    """`digest` is the SHA-256 of the key, in hexadecimal; `name` is that of the client that holds it."""

    model_config = ConfigDict(frozen=True)

    name: str
    digest: str
    created_at: datetime
    status: Literal["active", "revoked"] = "active"
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Created:
    state: ApiKey


@dataclass(frozen=True, slots=True)
class Revoked:
    state: ApiKey


class NameTaken(Exception):
    """Another active key has this name, or this key is known already under another or as revoked."""


class NoSuchKey(Exception):
    """No active key has this name."""


Outcome = Created | Revoked


def create(known: ApiKey | None, name: str, digest: str, now: datetime) -> Outcome:
    """Registering the same key twice is one key. Raises `NameTaken`."""
    if known is None:
        return Created(ApiKey(name=name, digest=digest, created_at=now))
    if known.name != name or known.status != "active":
        raise NameTaken
    return Created(known)


def revoke(known: ApiKey | None, now: datetime) -> Outcome:
    if known is None or known.status != "active":
        raise NoSuchKey
    return Revoked(known.model_copy(update={"status": "revoked", "revoked_at": now}))


class Keys:
    """The keys kept in intake's store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._clock = clock
        self._kept: Aggregates[ApiKey, Outcome] = store.aggregates(
            "api_keys", ApiKey, _announce, claims=_claims, tell=_tell, listed_by="state.status"
        )

    async def holder(self, key: str) -> str | None:
        """The name of the client that holds this key, or None. Asked anew each time, so that a key revoked is a
        key refused. Raises `Unavailable`."""
        found = await self._kept.get(sha256(key.encode()).hexdigest())
        return found.name if found and found.status == "active" else None

    async def create(self, name: str, digest: str) -> ApiKey:
        """Raises `NameTaken`."""
        now = self._clock()
        try:
            answer = await self._kept.apply(
                _command("create", digest), lambda known: create(known, name, digest, now), id=digest
            )
        except ClaimTaken:
            raise NameTaken from None
        return answer.state

    async def revoke(self, name: str) -> ApiKey:
        """Raises `NoSuchKey`."""
        digest = await self._kept.claimed_by(_claim(name))
        if digest is None:
            raise NoSuchKey
        now = self._clock()
        answer = await self._kept.apply(
            _command("revoke", digest), lambda known: revoke(known, now), id=digest
        )
        return answer.state

    async def all(self) -> list[ApiKey]:
        """The newest first, revoked ones too. Raises `Unavailable`."""
        documents = await self._kept.documents({}, LISTED)
        return [ApiKey.model_validate(document["state"]) for document in documents]


def _command(what: str, digest: str) -> Incoming:
    return Incoming(str(uuid4()), f"key.{what}", digest)


def _claim(name: str) -> str:
    return f"key:{name}"


def _claims(key: ApiKey) -> tuple[str, ...]:
    """What no two may share: a name, until the key is revoked."""
    return (_claim(key.name),) if key.status == "active" else ()


def _tell(key: ApiKey) -> str:
    return f"key of {key.name}, {key.status}"


def _announce(outcome: Outcome, _: Cause) -> list[CloudEvent]:
    match outcome:
        case Created() | Revoked():
            return []  # nobody else's business
        case _:
            assert_never(outcome)
