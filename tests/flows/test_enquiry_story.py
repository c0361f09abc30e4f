"""Twenty enquiries through the real processes: each one's story can be told, and no log tells anybody's secrets."""

import json
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from deploy.local.pipeline import PROGRAMME
from deploy.local.servers import Servers
from deploy.topology import service_names
from services.mentoring.mentors import load_mentors
from services.triage.learning import examples_in
from tests.conftest import eventually
from tests.flows.small_run import COUNT, PROGRAMME_TIME, SmallRun, small_run
from tests.unit.triage_examples import the_programme


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def run(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SmallRun]:
    tenant = servers.tenant(f"t{uuid.uuid4().hex[:10]}", service_names())
    async with small_run(tenant, tmp_path_factory.mktemp("story")) as running:
        yield running
    tenant.drop()


def references(run: SmallRun) -> Iterator[tuple[str, str]]:
    """Each enquiry with its public reference."""
    for document in run.documents("intake", "messages"):
        yield document["_id"], document["state"]["reference"]


async def test_every_enquiry_has_one_case_and_its_sender_one_answer_at_most(run: SmallRun) -> None:
    cases = run.documents("triage", "cases")
    assert len(cases) == COUNT
    assert {case["_id"] for case in cases} == {enquiry for enquiry, _ in references(run)}
    ids = [arrival.message_id for arrival in run.sink.arrivals]
    assert ids and len(ids) == len(set(ids)), "nothing came twice"


async def test_the_story_of_every_enquiry_is_whole_and_in_order(run: SmallRun) -> None:
    told = [enquiry for enquiry, _ in references(run)][:5]
    for enquiry, reference in references(run):
        answer = await run.cli("case", reference, "--json") if enquiry in told else None
        lines = json.loads(answer.stdout)["story"] if answer else await story(run, enquiry)
        if answer:
            assert json.loads(answer.stdout)["enquiry"] == enquiry
        took = [line["took"] for line in lines]
        assert took[0] == "message.smtp"
        assert lines[0]["service"] == "intake"
        assert lines[0]["said"] == ["enquiry.received.v1"]
        times = [datetime.fromisoformat(line["at"]) for line in lines]
        assert times == sorted(times)
        assert all(abs((time - PROGRAMME_TIME).total_seconds()) < 3_600 for time in times), (
            "by the programme's clock"
        )
        said = {event for line in lines for event in line["said"]}
        assert said & {"enquiry.routed.v1", "enquiry.held.v1"}
        heard = {line["took"] for line in lines if line["service"] != "intake"}
        assert said - {"enquiry.held.v1"} <= heard, "only what is held as automatic asks for no mail"
        if "mentoring.requested.v1" in said:
            decided = {line["outcome"] for line in lines if line["service"] == "mentoring"}
            assert decided & {"Booked", "Held", "Registered"}
        assert {line["unpublished"] for line in lines} == {0}


def first(run: SmallRun) -> str:
    return next(references(run))[0]


async def story(run: SmallRun, enquiry: str) -> list[dict[str, object]]:
    headers = {"Authorization": f"Bearer {run.pipeline.operator_token}"}
    lines = []
    async with httpx.AsyncClient(headers=headers, trust_env=False) as client:
        for name, service in run.pipeline.services.items():
            for line in (await client.get(f"{service.url}/story/{enquiry}")).json():
                lines.append({"service": name, **line})
    return sorted(lines, key=lambda line: datetime.fromisoformat(str(line["at"])))


async def test_an_operator_reads_why_and_decides_on_the_command_line(run: SmallRun, tmp_path: Path) -> None:
    def triage(*arguments: str) -> Any:
        return run.cli(*arguments, module="services.triage.cli")

    listed = json.loads((await triage("held", "--json")).stdout)
    assert listed and not {"out-of-scope", "auto"} & {case["disposition"] for case in listed}
    reference = listed[0]["reference"]
    told = (await triage("explain", reference)).stdout
    assert f"{reference} is held (revision 1)." in told and listed[0]["why"] in told
    by = ("--operator", "Ada Obi", "--reason", "rang them")
    routed = await triage("route", reference, "advice", "--area", "marketing", *by)
    assert f"{reference} is routed with mutual-ventures (revision 2)." in routed.stdout, routed.stderr
    file = tmp_path / "corrections.jsonl"
    await triage("corrections", str(file))
    [correction] = examples_in([file], the_programme().rules)
    assert correction.destination == "marketing", "as `make train` reads it"


async def test_every_log_line_is_json_and_says_which_service_and_what(run: SmallRun) -> None:
    for name, lines in run.logs().items():
        assert lines, name
        for line in lines:
            entry = json.loads(line)
            assert entry["service"] == name
            assert entry["level"] in {"debug", "info", "warning", "error", "critical"}
            assert datetime.fromisoformat(entry["timestamp"])
            assert entry["event"]


async def test_what_a_handler_logs_bears_the_enquirys_id(run: SmallRun) -> None:
    enquiry = first(run)
    event = {"id": "broken", "correlationid": enquiry}
    await run.publish("intake", json.dumps(event).encode(), {}, "enquiry.received.v1")

    def logged() -> list[dict[str, object]]:
        lines = [json.loads(line) for line in run.logs()["triage"]]
        return [line for line in lines if line["event"] == "message_failed"]

    await eventually(logged)
    [line] = logged()
    assert line["queue"] == "triage.enquiry-received"
    assert line["message_id"] and line["correlation_id"]


async def test_no_log_line_holds_an_address_a_body_or_a_password(run: SmallRun) -> None:
    mentors = load_mentors(PROGRAMME / "mentors.yaml").mentors
    secret = {run.pipeline.operator_token, run.pipeline.web_form_key}
    for name in service_names():
        secret.add(run.tenant.amqp_url(name).split(":")[2].partition("@")[0])
        secret.add(run.tenant.mongodb_url(name).split(":")[2].partition("@")[0])
    private = {arrival.recipient for arrival in run.sink.arrivals}
    private |= {mentor.address for mentor in mentors}
    for enquiry in run.enquiries:
        private |= {enquiry["from_address"], enquiry["from_name"]}
        if len(enquiry["subject"]) > 12:
            private.add(enquiry["subject"])
        private |= {line.strip()[:40] for line in enquiry["body"].splitlines() if len(line.strip()) > 25}
    assert len(private) > 3 * COUNT
    for name, lines in run.logs().items():
        for line in lines:
            readable = line + json.dumps(json.loads(line), ensure_ascii=False)
            for word in private | secret:
                assert word.lower() not in readable.lower(), (
                    f"{name}: {json.loads(line)['event']} holds {word!r}"
                )
