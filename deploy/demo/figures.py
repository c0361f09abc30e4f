"""Counts what the services stored, the mails that arrived, what is left in queues: no number is assumed."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pymongo

from deploy.demo.mails import count_mails
from deploy.local.servers import Tenant

Document = dict[str, Any]


@dataclass(frozen=True)
class Standing:
    """How far everything is. Two that are equal, with empty queues in between and nothing `waiting`, mean
    that all is done: a message that went from a queue into a database meanwhile would have raised `versions`.

    `waiting` has what is still to be done by where it is; `versions` counts the writes of each collection.
    """

    accepted: int
    decided: int
    mails_asked: int
    mails_settled: int
    waiting: dict[str, int]
    versions: dict[str, int]


@dataclass(frozen=True)
class Session:
    """A booked session, for people to look at."""

    reference: str
    mentor: str
    starts: datetime


@dataclass(frozen=True)
class Figures:
    """The table. `stream`, `area` and `partner` each add up to the enquiries routed, each of them under its
    main need; `held` has the others by reason. `seconds` were spent on messages, over all runs."""

    accepted: int
    via: dict[str, int]
    cases: int
    stream: dict[str, int]
    area: dict[str, int]
    partner: dict[str, int]
    held: dict[str, int]
    mentoring: dict[str, int]
    sessions: int
    notifications: dict[str, int]
    mails_by_kind: dict[str, int]
    mails: int
    failed_messages: int
    left_in_queues: int
    seconds: float

    @property
    def routed(self) -> int:
        return sum(self.stream.values())

    def as_json(self) -> Document:
        return {
            "accepted": self.accepted,
            "cases": self.cases,
            "routed": {"stream": self.stream, "area": self.area, "partner": self.partner},
            "held": self.held,
            "sessions": self.sessions,
            "mails": self.mails,
            "left_in_queues": self.left_in_queues,
            "seconds": self.seconds,
        }


class Books:
    """The services' databases, read by the administrator. Only a demo may look over their shoulders."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._client: pymongo.MongoClient[Document] = pymongo.MongoClient(
            tenant.admin_mongodb_url, appname="demo", tz_aware=True, serverSelectionTimeoutMS=10_000
        )

    def close(self) -> None:
        self._client.close()

    def _collection(self, service: str, name: str) -> "pymongo.collection.Collection[Document]":
        return self._client[self._tenant.database(service)][name]

    def accepted(self, message_ids: Iterable[str]) -> frozenset[str]:
        """Those of the Message-IDs that intake has accepted."""
        query = {"state.message_id": {"$in": list(message_ids)}}
        found = self._collection("intake", "messages").find(query, {"state.message_id": 1})
        return frozenset(document["state"]["message_id"] for document in found)

    def message_ids(self) -> frozenset[str]:
        """Intake's ids of all it keeps."""
        found = self._collection("intake", "messages").find({}, {"_id": 1})
        return frozenset(document["_id"] for document in found)

    def failed_messages(self) -> int:
        return sum(
            self._collection(service, "failed_messages").count_documents({"state.status": "open"})
            for service in self._tenant.services
        )

    def standing(self) -> Standing:
        versions: dict[str, int] = {}
        waiting: dict[str, int] = {}
        for service in self._tenant.services:
            database = self._client[self._tenant.database(service)]
            for name in database.list_collection_names():
                unpublished = {"$size": {"$ifNull": ["$outbox", []]}}
                totals = {"_id": None, "writes": {"$sum": "$version"}, "outbox": {"$sum": unpublished}}
                for total in database[name].aggregate([{"$group": totals}]):
                    versions[f"{service}.{name}"] = total["writes"]
                    if total["outbox"]:
                        waiting[f"events not yet published by {service}"] = total["outbox"]
        mails = self._by("notifications", "notifications", "state.status")
        if mails.get("queued"):
            waiting["mails not yet handed over"] = mails["queued"]
        return Standing(
            accepted=self._collection("intake", "messages").count_documents({}),
            decided=self._collection("triage", "cases").count_documents({}),
            mails_asked=sum(mails.values()),
            mails_settled=sum(mails.values()) - mails.get("queued", 0),
            waiting=waiting,
            versions=versions,
        )

    def figures(self, mail: Path, left_in_queues: int, seconds: float) -> Figures:
        routed = {"state.status": {"$in": ["routed", "accepted"]}}
        held = {"state.status": {"$in": ["held", "waiting"]}}
        mentoring = self._by("mentoring", "sessions", "state.status")
        main_need = {
            "$ifNull": ["$state.pilot_theme", {"$ifNull": [{"$first": "$state.areas"}, "mentoring"]}]
        }
        return Figures(
            accepted=self._collection("intake", "messages").count_documents({}),
            via=self._by("intake", "messages", "state.via"),
            cases=self._collection("triage", "cases").count_documents({}),
            stream=self._by("triage", "cases", "state.stream", routed),
            area=self._by("triage", "cases", main_need, routed),
            partner=self._by("triage", "cases", "state.partner.name", routed),
            held=self._by("triage", "cases", "state.decision.reason", held),
            mentoring=mentoring,
            sessions=mentoring.get("booked", 0),
            notifications=self._by("notifications", "notifications", "state.status"),
            mails_by_kind=self._by(
                "notifications", "notifications", "state.content.template", {"state.status": "sent"}
            ),
            mails=count_mails(mail),
            failed_messages=self.failed_messages(),
            left_in_queues=left_in_queues,
            seconds=round(seconds, 2),
        )

    def _by(
        self, service: str, collection: str, field: str | Document, query: Document | None = None
    ) -> dict[str, int]:
        """How many documents there are of each value, the most frequent first."""
        key = f"${field}" if isinstance(field, str) else field
        pipeline = [{"$match": query or {}}, {"$group": {"_id": key, "n": {"$sum": 1}}}]
        found = {
            str(row["_id"]): int(row["n"])
            for row in self._collection(service, collection).aggregate(pipeline)
        }
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def example(self) -> Session | None:
        """The case with the most to tell: one with a session, and of those one that needs several things."""
        booked = self._collection("mentoring", "sessions").find({"state.status": "booked"})
        best = max(booked, key=lambda it: (len(it["state"]["request"]["areas"]), it["_id"]), default=None)
        if best is None:
            return None
        meeting = best["state"]["meeting"]
        return Session(
            reference=best["state"]["request"]["reference"],
            mentor=meeting["mentor"]["name"],
            starts=datetime.fromisoformat(meeting["starts"]),
        )
