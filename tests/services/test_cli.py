"""The operators' command line against the real services."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from typer.testing import CliRunner, Result

from deploy.local.process import free_port
from deploy.local.servers import Servers
from deploy.topology import service_names
from services.triage.envelopes.cli import app as envelopes
from tests.conftest import eventually
from tests.flows.small_run import SmallRun, small_run


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def run(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SmallRun]:
    tenant = servers.tenant(f"t{uuid.uuid4().hex[:10]}", service_names())
    async with small_run(tenant, tmp_path_factory.mktemp("cli")) as running:
        yield running
    tenant.drop()


def an_enquiry(run: SmallRun) -> dict[str, Any]:
    return run.documents("intake", "messages")[0]


async def test_a_case_is_told_as_a_table_from_its_reference(run: SmallRun) -> None:
    enquiry = an_enquiry(run)
    reference = enquiry["state"]["reference"]
    answer = await run.cli("case", f" {reference.lower()} ")
    assert answer.returncode == 0, answer.stderr
    assert f"{reference} (enquiry {enquiry['_id']}), times in Europe/London" in answer.stdout
    for word in (
        "24 Sep 2018 09:",
        "intake",
        "triage",
        "notifications",
        "message.smtp",
        "enquiry.received.v1",
    ):
        assert word in answer.stdout
    assert answer.stderr == ""


async def test_a_case_is_told_as_json(run: SmallRun) -> None:
    enquiry = an_enquiry(run)
    answer = await run.cli("case", enquiry["state"]["reference"], "--json")
    told = json.loads(answer.stdout)
    assert (told["reference"], told["enquiry"]) == (enquiry["state"]["reference"], enquiry["_id"])
    assert told["story"][0]["service"] == "intake"


@pytest.mark.parametrize(
    "reference",
    [
        "MSP-AAAA-AA",
        "nonsense",
        "../metrics",
        "MSP-7F3K-2Q/../../metrics",
        "[red]x[/red]",
        "\x1b[2J",
        "?",
        "$ne",
    ],
)
async def test_an_unknown_reference_is_an_error_in_one_line(run: SmallRun, reference: str) -> None:
    answer = await run.cli("case", "--", reference)
    assert answer.returncode == 1
    assert answer.stdout == ""
    [line] = answer.stderr.splitlines()
    assert "reference" in line
    assert "\x1b" not in line


async def test_health_is_told_for_every_service_and_fails_where_one_is_away(
    run: SmallRun, tmp_path: Path
) -> None:
    answer = await run.cli("health")
    assert answer.returncode == 0
    assert [line.split()[:2] for line in answer.stdout.splitlines()] == [
        ["ok", name] for name in service_names()
    ]
    there = json.loads(run.operator_file.read_text())
    there["services"]["triage"] = f"http://127.0.0.1:{free_port()}"
    file = tmp_path / "operator.json"
    file.write_text(json.dumps(there))
    answer = await run.cli("health", MUTUALS_OPERATOR_FILE=str(file))
    assert answer.returncode == 1
    assert "BAD triage" in answer.stdout and "ok  intake" in answer.stdout
    answer = await run.cli("case", "MSP-AAAA-AA", MUTUALS_OPERATOR_FILE=str(file))
    assert answer.returncode == 1
    assert "triage does not answer" in answer.stderr and "Traceback" not in answer.stderr


async def test_failed_messages_are_listed_replayed_and_discarded_and_their_text_is_only_text(
    run: SmallRun,
) -> None:
    assert (await run.cli("failed", "list")).stdout == "No failed messages.\n"
    hostile = "[red]boom[/red] [link=http://x]y[/link] \x1b[2J\x1b]0;owned\x07"
    headers = {"x-queue": "triage.enquiry-received", "x-error-type": "RuntimeError", "x-error": hostile}
    await run.publish("triage.dead", b"not json", headers)

    async def listed() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((await run.cli("failed", "list", "--json")).stdout)
        return found

    await eventually(listed)
    [message] = await listed()
    assert message["service"] == "triage"
    assert message["error"] == hostile
    for colours in ({}, {"FORCE_COLOR": "1", "NO_COLOR": ""}):
        table = await run.cli("failed", "list", **colours)
        assert table.returncode == 0
        shown = "".join(table.stdout.split())
        assert "[red]boom[/red][link=http://x]y[/link]" in shown
        assert "\x1b[2J" not in table.stdout and "\x1b]0" not in table.stdout and "\x07" not in table.stdout

    replayed = await run.cli("failed", "replay", "triage", message["id"], "--operator", "Ada")
    assert replayed.stdout == f"{message['id']} sent to triage.enquiry-received again.\n"

    async def failed_again() -> bool:
        return [each["times"] for each in await listed()] == [2]

    await eventually(failed_again)
    for _ in range(2):
        discarded = await run.cli(
            "failed", "discard", "triage", message["id"], "--operator", "Ada", "--reason", "no event of ours"
        )
        if discarded.returncode:
            break
    assert discarded.returncode == 1, "it can be discarded once"
    assert "409" in discarded.stderr and "no such failed message is open" in discarded.stderr
    assert await listed() == []


@pytest.mark.parametrize("id", ["0123456789ab", "../../metrics", "x", "$ne"])
async def test_a_failed_message_that_is_not_there_is_an_error(run: SmallRun, id: str) -> None:
    answer = await run.cli("failed", "replay", "triage", id, "--operator", "Ada")
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert answer.stderr and "Traceback" not in answer.stderr


async def test_a_service_that_does_not_exist_is_named_with_those_that_do(run: SmallRun) -> None:
    answer = await run.cli("failed", "replay", "accounts", "0123456789ab", "--operator", "Ada")
    assert answer.returncode == 2
    assert "accounts" in answer.stderr and "triage" in answer.stderr


@pytest.mark.parametrize("content", [None, "not json", "[]", '{"token": "x"}'])
async def test_a_missing_or_wrong_operator_file_is_named(
    run: SmallRun, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "operator.json"
    if content is not None:
        file.write_text(content)
    answer = await run.cli("case", "MSP-AAAA-AA", MUTUALS_OPERATOR_FILE=str(file))
    assert answer.returncode == 2
    assert "operator.json" in "".join(answer.stderr.replace("│", "").split())
    assert "Traceback" not in answer.stderr


async def test_the_wrong_token_is_said(run: SmallRun, tmp_path: Path) -> None:
    there = json.loads(run.operator_file.read_text())
    file = tmp_path / "operator.json"
    file.write_text(json.dumps({**there, "token": "wrong"}))
    answer = await run.cli("failed", "list", MUTUALS_OPERATOR_FILE=str(file))
    assert answer.returncode == 1
    assert "says 403" in answer.stderr
    assert there["token"] not in answer.stderr


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("case",),
        ("health",),
        ("failed",),
        ("failed", "list"),
        ("failed", "replay"),
        ("failed", "discard"),
    ],
)
async def test_every_command_explains_itself(run: SmallRun, command: tuple[str, ...]) -> None:
    answer = await run.cli(*command, "--help")
    assert answer.returncode == 0
    assert "Usage:" in answer.stdout
    assert "--help" in answer.stdout


async def test_an_operator_moves_money_for_a_case_and_sees_who_moved_it_and_why(run: SmallRun) -> None:
    async def money(*arguments: str) -> Result:
        given = [*arguments, "--operator-file", str(run.operator_file)]
        return await asyncio.to_thread(CliRunner().invoke, envelopes, given, env={"COLUMNS": "200"})

    case = next(
        each["state"] for each in run.documents("triage", "cases") if each["state"]["stream"] == "advice"
    )
    who = ("--operator", "Ada Obi", "--reason", "[red]as agreed[/red]")
    for kind, amount in (("reserve", "4,800.50"), ("commit", "4800")):
        answer = await money("move", "advice", kind, case["reference"], amount, *who)
        assert answer.exit_code == 0, answer.output
    assert answer.stdout == (f"commit £4,800.00 for {case['reference']}: £1,195,199.50 of advice are free.\n")
    listed = (await money("movements", "advice", "--reference", case["reference"])).stdout
    for word in ("reserve", "£4,800.50", case["partner"]["slug"], "Ada Obi", "[red]as agreed[/red]"):
        assert word in listed
    assert "£4,800.00" in (await money("show", "advice")).stdout
    assert "£1,195,199.50" in (await money("list")).stdout
    refused = await money("move", "advice", "spend", case["reference"], "4800.01", *who)
    assert refused.exit_code == 1
    assert "£4,800.00 committed, not £4,800.01" in refused.stderr
