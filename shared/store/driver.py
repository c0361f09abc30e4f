"""The only module that names the database driver, so that replacing Motor is a change to this file alone."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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

DUPLICATE_KEY = 11000
# The server is going down, starting or changing primary: the same write may succeed a moment later.
PASSING_CODES = frozenset({50, 64, 89, 91, 112, 189, 262, 10058, 10107, 11600, 11602, 13435, 13436})


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
