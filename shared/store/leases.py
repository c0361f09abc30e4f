"""Leases: what keeps two replicas off the same piece of work, and gives it back when one of them dies."""

from datetime import datetime, timedelta
from uuid import uuid4

from shared.store.driver import Collection, Document

SWEEP_LIMIT = 200


async def lease(
    collection: Collection, field: str, kind: str, *, until: datetime, now: datetime, last: timedelta
) -> list[Document]:
    """Lease, for `last` from `now`, at most `SWEEP_LIMIT` documents whose `field` is not after `until`.

    Oldest first. Nobody else is given the same ones before `last` has passed.
    """
    end, holder = f"{kind}_lease", f"{kind}_owner"
    free = {field: {"$lte": until}, "$or": [{end: {"$exists": False}}, {end: {"$lte": now}}]}
    found = await collection.find(free, {"_id": 1}).sort(field, 1).limit(SWEEP_LIMIT).to_list(length=None)
    if not found:
        return []
    token = uuid4().hex
    ids = {"$in": [document["_id"] for document in found]}
    await collection.update_many({"_id": ids, **free}, {"$set": {end: now + last, holder: token}})
    return await collection.find({"_id": ids, holder: token}).to_list(length=None)
