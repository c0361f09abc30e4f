"""The kit's small parts: clock, settings, supervision, the table of what is heard, ids of events."""

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from pydantic import SecretStr
from pydantic_settings import SettingsConfigDict

from shared import logs, supervise
from shared.clock import clock
from shared.contracts.cloudevents import Person
from shared.contracts.triage import MentoringRequested, RequestedMentoring
from shared.messaging.delivery import identity
from shared.messaging.hears import Hears
from shared.messaging.topology import RETRY_TIERS, Topology
from shared.settings import ServiceSettings, settings_from_environment
from shared.store import Cause, Outgoing
from tests.conftest import eventually

NOW = datetime(2018, 9, 24, 9, tzinfo=UTC)


def test_a_clock_is_in_utc_to_the_millisecond_and_as_far_away_as_asked() -> None:
    now = clock(timedelta(days=-3000))()
    assert now.tzinfo is UTC
    assert now.microsecond % 1000 == 0
    assert abs(datetime.now(UTC) - now - timedelta(days=3000)) < timedelta(seconds=5)


# Settings


class ExampleSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="EXAMPLE_")


def test_what_is_missing_or_wrong_is_said_line_by_line_without_what_was_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["app"])
    monkeypatch.setenv("EXAMPLE_OPERATOR_TOKEN", "hush-hush")
    monkeypatch.setenv("EXAMPLE_HTTP_PORT", "99999")
    with pytest.raises(SystemExit) as ended:
        settings_from_environment(ExampleSettings)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert {line.partition(":")[0] for line in said.splitlines()} == {
        "EXAMPLE_RABBITMQ_URL",
        "EXAMPLE_MONGODB_URL",
        "EXAMPLE_HTTP_PORT",
    }
    assert "hush-hush" not in said and "99999" not in said


def test_settings_show_no_secret() -> None:
    secret = SecretStr("hush-hush")
    settings = ServiceSettings(rabbitmq_url=secret, mongodb_url=secret, operator_token=secret)
    assert "hush-hush" not in f"{settings!r}{settings}{settings.model_dump_json()}"


# Supervision


async def test_a_loop_that_fails_or_is_cancelled_from_within_goes_on() -> None:
    runs = 0

    async def loop() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RuntimeError("a fault")
        if runs == 2:
            raise asyncio.CancelledError  # as a frozen broker does to those who wait for it
        await asyncio.Event().wait()

    task = supervise.supervise("loop", loop, pause=0.001)
    await eventually(lambda: runs == 3)
    assert not task.done()
    await supervise.stop(task, None)
    assert task.cancelled()


# What is heard, and where it goes


def test_a_queues_name_follows_from_the_service_and_the_event() -> None:
    hears = Hears("example")

    @hears(MentoringRequested, prefetch=7)
    async def take(event: MentoringRequested) -> None: ...

    [subscription] = hears.subscriptions
    assert subscription.queue == "example.mentoring-requested"
    assert (subscription.kind, subscription.handler, subscription.prefetch) == (MentoringRequested, take, 7)
    topology = Topology.of(hears)
    assert topology.queues == (("example.mentoring-requested", "triage", "mentoring.requested.v1"),)
    names = [name for name, *_ in topology.queues]
    names += [topology.dead, topology.back, *(topology.retry(tier) for tier, _ in RETRY_TIERS)]
    assert all(name.startswith("example.") for name in names), "one rule of access covers them all"


def test_every_quorum_queue_can_push_back_and_none_can_loop_for_ever() -> None:
    topology = Topology.of(Hears("example"))
    for arguments in (
        topology.arguments(None),
        topology.arguments("example.dead"),
        topology.arguments("x", 5_000),
    ):
        assert arguments["x-queue-type"] == "quorum"
        assert arguments["x-overflow"] == "reject-publish"
        assert arguments["x-delivery-limit"] == 20
    assert topology.arguments("example.dead")["x-dead-letter-strategy"] == "at-least-once"
    assert topology.arguments("x", 5_000)["x-message-ttl"] == 5_000


def test_a_message_without_an_id_is_known_by_its_content() -> None:
    assert identity("given", b"body") == "given"
    assert identity(None, b"body") == identity("", b"body") != identity(None, b"other")


# Ids of events


def test_deciding_twice_says_the_same_event_and_others_say_others() -> None:
    data = RequestedMentoring(
        reference="MSP-7F3K-2Q", kind="one-to-one", mentee=Person(address="a@b.example")
    )

    def event(message: str = "m", aggregate: str = "a", nth: int = 0) -> str:
        return Cause(message, "c", aggregate, NOW).event(MentoringRequested, data, nth).id

    assert event() == event()
    assert len({event(), event(message="other"), event(aggregate="other"), event(nth=1)}) == 4


def test_an_events_body_says_nothing_of_what_is_not_there() -> None:
    data = RequestedMentoring(
        reference="MSP-7F3K-2Q", kind="one-to-one", mentee=Person(address="a@b.example")
    )
    outgoing = Outgoing.of(Cause("m", "c", "a", NOW).event(MentoringRequested, data))
    assert "acceptedat" not in json.loads(outgoing.body)
    assert (outgoing.exchange, outgoing.routing_key) == ("triage", "mentoring.requested.v1")
    assert (outgoing.message_id, outgoing.correlation_id) == (outgoing.id, "c")


# Logs


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_in_a_log_shows_no_local_variable(
    capsys: pytest.CaptureFixture[str], log_format: str
) -> None:
    secret = SecretStr("x")
    settings = ServiceSettings(rabbitmq_url=secret, mongodb_url=secret, operator_token=secret)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logs.configure("example", settings.model_copy(update={"log_format": log_format}))
        try:
            body = "we would like to become a mutual"
            raise RuntimeError("no mailbox for " + "ada@" + "library.example")
        except RuntimeError:
            structlog.get_logger().exception("it_failed", id="an-id")
            logging.getLogger("a.library").exception("failed for %s", "<ada@library.example>")
        said = capsys.readouterr().out
    finally:
        structlog.reset_defaults()
        root.handlers[:], root.level = before
    assert body not in said
    assert "it_failed" in said and "an-id" in said and "RuntimeError" in said and "test_kit_parts.py" in said
    if log_format == "json":
        assert "ada@library.example" not in said
        assert [json.loads(line)["service"] for line in said.splitlines()] == ["example", "example"]


def test_where_an_error_was_raised_is_a_file_and_a_line() -> None:
    def fails() -> None:
        raise ValueError

    with pytest.raises(ValueError) as caught:
        fails()
    assert logs.where(caught.value).startswith("test_kit_parts.py:")
    assert logs.where(ValueError()) == ""
