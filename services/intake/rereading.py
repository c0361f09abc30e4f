"""Reads kept messages again, when the reading has become better or the settings are others: what would change, and
then the change."""

from dataclasses import dataclass, replace
from typing import Any

from services.intake.acceptance import RAW_FILES, Acceptance, Messages
from services.intake.arrival import arriving_mail
from services.intake.domain import READ, Message, NotKept
from services.intake.mail import Ours
from shared.store import Store

COMPARED = sorted(READ | {"outcome", "held"})


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of a message: what is kept, and what it reads as now."""

    field: str
    kept: Any
    read: Any


class Rereading:
    """Messages from a web form are left out: nothing was read out of them."""

    def __init__(self, store: Store, messages: Messages, acceptance: Acceptance, ours: Ours) -> None:
        self._store = store
        self._messages = messages
        self._acceptance = acceptance
        self._ours = ours

    async def ids(self, *, held: bool, enquiry: str, after: str, limit: int) -> list[str]:
        """Of messages in the order of their ids. Raises `Unavailable`."""
        query: dict[str, Any] = {"state.via": {"$ne": "http-form"}}
        if held:
            query["state.held"] = {"$gt": ""}
        if enquiry:
            query["$or"] = [{"_id": enquiry}, {"state.enquiry": enquiry}]
        return await self._messages.ids(query, after=after, limit=limit)

    async def __call__(self, id: str, operator: str, *, apply: bool) -> list[Difference]:
        """Read it again. Raises `NotKept` where there is nothing to read, and `Unavailable`."""
        message = await self._messages.get(id)
        if message is None or message.via == "http-form":
            raise NotKept
        raw = message.raw
        if raw is None and (raw := await self._store.read_file(RAW_FILES, message.raw_sha256)) is None:
            raise NotKept
        arrived = await arriving_mail(
            raw,
            via=message.via,
            ours=self._ours,
            peer=message.peer,
            mail_from=message.mail_from,
            rcpt_tos=message.rcpt_tos,
        )
        # It stays the same message, even where its Message-ID is read in another way now.
        arrived = replace(arrived, id=message.id, fingerprint=message.fingerprint)
        change = await self._acceptance.again(message, arrived, operator, apply=False)
        differences = _differences(message, change.state)
        if apply and differences:
            change = await self._acceptance.again(message, arrived, operator, apply=True)
        return differences


def _differences(kept: Message, now: Message) -> list[Difference]:
    before, after = kept.model_dump(mode="json"), now.model_dump(mode="json")
    return [Difference(name, before[name], after[name]) for name in COMPARED if before[name] != after[name]]
