"""What counts as the database being away, and what as its answer: only the first is asked again for ever."""

import pytest
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConfigurationError,
    DocumentTooLarge,
    DuplicateKeyError,
    InvalidOperation,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WTimeoutError,
)

from shared.store.driver import Unavailable, asking, is_outage, reason


@pytest.mark.parametrize(
    "error",
    [
        AutoReconnect("connection closed"),
        NetworkTimeout("timed out"),
        NotPrimaryError("not primary"),
        ServerSelectionTimeoutError("nobody there"),
        WaitQueueTimeoutError("no connection free"),
        OperationFailure("shutting down", 11600),
        OperationFailure("took too long", 50),
        OperationFailure("our account is not known yet", 18),
        OperationFailure("disk is full", 14031),
        WTimeoutError("not enough members wrote it", 64),
        BulkWriteError({"writeErrors": [], "writeConcernErrors": [{"code": 64}]}),
        Unavailable(),
    ],
    ids=repr,
)
def test_a_database_that_is_away_is_asked_again(error: Exception) -> None:
    assert is_outage(error)


@pytest.mark.parametrize(
    "error",
    [
        DuplicateKeyError("taken", 11000),
        OperationFailure("not allowed", 13),
        OperationFailure("bad query", 2),
        BulkWriteError({"writeErrors": [{"code": 11000}], "writeConcernErrors": []}),
        DocumentTooLarge("16 MB"),
        InvalidOperation("the client is closed"),
        ConfigurationError("no default database"),
        ValueError("no error of the database's"),
        ConnectionError("the broker"),
        TimeoutError("somebody's own"),
    ],
    ids=repr,
)
def test_what_asking_again_would_not_mend_is_no_outage(error: Exception) -> None:
    assert not is_outage(error)


def test_asking_says_unavailable_for_an_outage_and_lets_the_rest_through() -> None:
    with pytest.raises(Unavailable), asking():
        raise AutoReconnect("gone")
    with pytest.raises(OperationFailure), asking():
        raise OperationFailure("bad query", 2)


@pytest.mark.parametrize(
    "error", [AutoReconnect("10.0.0.7:27017"), OperationFailure("E: ada@library.example", 18)]
)
def test_the_reason_in_a_log_quotes_nobody(error: PyMongoError) -> None:
    assert reason(error) in {"AutoReconnect", "OperationFailure 18"}
