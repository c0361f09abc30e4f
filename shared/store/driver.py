"""The only module that names the database driver, so that replacing Motor is a change to this file alone."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gridfs.errors import CorruptGridFile, FileExists, NoFile
from motor.motor_asyncio import (
    AsyncIOMotorClient,
    AsyncIOMotorCollection,
    AsyncIOMotorDatabase,
    AsyncIOMotorGridFSBucket,
)
from pymongo.errors import BulkWriteError, ConnectionFailure, OperationFailure, PyMongoError

Document = dict[str, Any]
Client = AsyncIOMotorClient[Document]
Database = AsyncIOMotorDatabase[Document]
Collection = AsyncIOMotorCollection[Document]
Files = AsyncIOMotorGridFSBucket

__all__ = [
    "DUPLICATE_KEY",
    "PASSING_CODES",
    "Client",
    "Collection",
    "CorruptGridFile",
    "Database",
    "Document",
    "FileExists",
    "Files",
    "NoFile",
    "Unavailable",
    "asking",
    "connect",
    "files",
    "is_outage",
    "reason",
]

DUPLICATE_KEY = 11000
# The server is going down, starting, changing primary, cut off from its peers or out of disk, or it does not know
# our account just now: the same write may succeed later, and no message must use up its attempts meanwhile.
PASSING_CODES = frozenset(
    {6, 7, 18, 50, 64, 89, 91, 100, 112, 133, 134, 189, 202, 262}
    | {9001, 10058, 10107, 11600, 11602, 13435, 13436, 14031}
)


def connect(url: str, app_name: str) -> Client:
    """A client whose writes are durable when they return, and whose every call is bounded in time."""
    return AsyncIOMotorClient(
        url,
        appname=app_name,
        tz_aware=True,
        w="majority",
        journal=True,
        timeoutMS=10_000,
        serverSelectionTimeoutMS=3_000,
        connectTimeoutMS=3_000,
        maxPoolSize=32,
        io_loop=asyncio.get_running_loop(),
    )


def files(database: Database, bucket: str) -> Files:
    return AsyncIOMotorGridFSBucket(database, bucket_name=bucket)


class Unavailable(Exception):
    """The database did not answer: nothing was promised, ask again later."""


@contextmanager
def asking() -> Iterator[None]:
    """Turn the driver's many ways of saying that the database is away into `Unavailable`."""
    try:
        yield
    except PyMongoError as error:
        if is_outage(error):
            raise Unavailable(type(error).__name__) from error
        raise


def is_outage(error: BaseException) -> bool:
    """Whether the database is away rather than refusing what was asked: worth asking again, unchanged."""
    if isinstance(error, Unavailable):
        return True
    if isinstance(error, BulkWriteError):
        return bool(error.details.get("writeConcernErrors"))
    if isinstance(error, ConnectionFailure):
        return True
    if isinstance(error, OperationFailure):
        return error.code in PASSING_CODES or error.timeout
    return isinstance(error, PyMongoError) and error.timeout


def reason(error: BaseException) -> str:
    """What to say of it in a log: kind and code, never the server's words, which may quote a document."""
    code = getattr(error, "code", None)
    return type(error).__name__ if code is None else f"{type(error).__name__} {code}"
