"""Offers on the real broker and database: links, silence, conflicts and a partner's own queue."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aio_pika
import httpx
import pytest
from aio_pika.exceptions import AMQPError
from fastapi import FastAPI

from deploy.local.pipeline import Pipeline
from deploy.local.servers import Tenant
from deploy.topology import topologies
from services.triage.app import app as triage_app
from shared.contracts.intake import EnquiryReceived
from shared.messaging.topology import declare
from tests.conftest import eventually
from tests.unit.triage_examples import LEASE, received

MORNING = datetime(2018, 9, 24, 8, 30, tzinfo=UTC)  # a Monday, 09:30 in London


@dataclass
class Triage:
    """Triage in this process, on real servers, at a time of the programme's that a test may set."""

    tenant: Tenant
    pipeline: Pipeline
    monkeypatch: pytest.MonkeyPatch
    apps: list[FastAPI] = field(default_factory=list)

    @asynccontextmanager
    async def at(self, instant: datetime) -> AsyncIterator[httpx.AsyncClient]:
        """Started at that time; gives a client with the operators' token."""
        offset = (instant - datetime.now(UTC)).total_seconds()
        environment = self.pipeline.services["triage"].environment
        for name, value in {**environment, "TRIAGE_CLOCK_OFFSET": str(offset)}.items():
            self.monkeypatch.setenv(name, value)
        app = triage_app()
        headers = {"Authorization": f"Bearer {self.pipeline.operator_token}"}
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://triage", headers=headers) as client,
        ):
            yield client

    @asynccontextmanager
    async def channel(self, url: str | None = None) -> AsyncIterator[Any]:
        async with await aio_pika.connect(url or self.tenant.admin_amqp_url) as connection:
            async with connection.channel() as channel:
                yield channel

    async def receive(self, *events: EnquiryReceived) -> None:
        async with self.channel() as channel:
            exchange = await channel.get_exchange("intake")
            for event in events:
                message = aio_pika.Message(event.model_dump_json().encode(), message_id=event.id)
                await exchange.publish(message, event.type)

    async def said(self, family: str) -> list[dict[str, Any]]:
        """Takes what triage has said to notifications."""
        found = []
        async with self.channel() as channel:
            queue = await channel.get_queue(f"notifications.{family}")
            while message := await queue.get(fail=False, no_ack=True):
                found.append(json.loads(message.body))
        return found

    async def next_said(self, family: str) -> dict[str, Any]:
        """Waits for exactly one event."""
        found: list[dict[str, Any]] = []

        async def come() -> bool:
            found.extend(await self.said(family))
            return bool(found)

        await eventually(come, 30, family)
        assert len(found) == 1
        return found[0]["data"]


@pytest.fixture
async def triage(tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Triage]:
    pipeline = Pipeline(tenant, tmp_path, mail_server_port=25)
    await declare(tenant.admin_amqp_url, topologies())
    yield Triage(tenant, pipeline, monkeypatch)
    pipeline.stop()


def path_of(url: str) -> str:
    return "/" + url.split("/", 3)[3]


async def test_a_partner_looks_as_often_as_it_likes_and_answers_once(triage: Triage) -> None:
    async with triage.at(MORNING) as client:
        await triage.receive(received(LEASE, "<b>Our</b> lease", accepted_at=MORNING))
        routed = await triage.next_said("enquiry-routed")
        assert (routed["partner"]["slug"], routed["offer"]["number"]) == ("bevan-brittan", 1)
        link = path_of(routed["offer"]["answer_url"])
        for _ in range(3):  # as mail scanners do
            page = await client.get(link)
            assert (page.status_code, "Accept the case" in page.text) == (200, True)
            assert "&lt;b&gt;Our&lt;/b&gt; lease" in page.text and "<b>" not in page.text
            assert "default-src 'none'" in page.headers["Content-Security-Policy"]
            assert page.headers["Referrer-Policy"] == "no-referrer"
        nan = {"answer": "accept", "by": "P", "days": "NaN"}
        for wrong in ({}, {"answer": "accept"}, {"answer": "decline", "by": "P"}, nan):
            assert (await client.post(link, data=wrong)).status_code == 422
        assert (await client.post(link, data={"answer": "accept", "by": "x" * 30_000})).status_code == 413
        assert (await client.post(link[:-1], data={"answer": "accept", "by": "Eve"})).status_code == 404
        assert await triage.said("case-accepted") == []
        yes = {"answer": "accept", "by": "Priya <i>Nair</i>", "days": "2.5"}
        answered = await client.post(link, data=yes)
        assert (answered.status_code, path_of(answered.headers["Location"])) == (303, link)
        again = await client.post(link, data=yes)
        assert again.status_code == 303, "again is harmless"
        accepted = await triage.next_said("case-accepted")
        assert (accepted["by"], accepted["days"], accepted["partner"]["slug"]) == (
            "Priya <i>Nair</i>",
            2.5,
            "bevan-brittan",
        )
        no = {"answer": "decline", "by": "P", "reason": "other"}
        assert (await client.post(link, data=no)).status_code == 409
        page = await client.get(link)
        assert "Priya &lt;i&gt;Nair&lt;/i&gt; accepted it" in page.text and "<form" not in page.text


async def test_each_next_partner_is_offered_it_by_no_or_by_silence_and_at_last_it_is_held(
    triage: Triage,
) -> None:
    async with triage.at(MORNING) as client:
        await triage.receive(received(accepted_at=MORNING))
        first = await triage.next_said("enquiry-routed")
        no = {"answer": "decline", "by": "Priya", "reason": "no-capacity", "words": "Full."}
        assert (await client.post(path_of(first["offer"]["answer_url"]), data=no)).status_code == 303
        second = await triage.next_said("enquiry-routed")
        assert (second["partner"]["slug"], second["offer"]["number"]) == ("bwb", 2)
        assert second["offer"]["expires_at"].startswith("2018-09-26T08:30"), "two working days later"
    # Nobody was there when the time ran out.
    async with triage.at(MORNING + timedelta(days=2, minutes=1)) as client:
        ended = await triage.next_said("offer-ended")
        assert (ended["partner"]["slug"], ended["how"]) == ("bwb", "expired")
        held = await triage.next_said("enquiry-held")
        assert held["reason"] == "nobody-left"
        late = await client.post(
            path_of(second["offer"]["answer_url"]), data={"answer": "accept", "by": "Sam"}
        )
        assert late.status_code == 409
    async with triage.at(MORNING + timedelta(days=3)):
        for family in ("offer-ended", "enquiry-held", "enquiry-routed"):
            assert await triage.said(family) == [], "once"


async def test_partners_systems_see_their_own_cases_and_answer_them(triage: Triage) -> None:
    keys = triage.pipeline.partner_keys
    theirs, others = ({"Authorization": f"Bearer {keys[slug]}"} for slug in ("bevan-brittan", "bwb"))
    async with triage.at(MORNING) as client:
        await triage.receive(received(accepted_at=MORNING))
        offer = (await triage.next_said("enquiry-routed"))["offer"]["id"]
        [seen] = (await client.get("/partner/cases", headers=theirs)).json()
        assert (seen["offer"], seen["status"], seen["reference"]) == (offer, "open", "MSP-7F3K-2Q")
        assert (await client.get("/partner/cases", headers=others)).json() == []
        assert (
            await client.get("/partner/cases", headers={"Authorization": "Bearer guess"})
        ).status_code == 403
        for path in (f"/partner/offers/{offer}", f"/partner/offers/{'f' * 32}-1"):
            assert (await client.get(path, headers=others)).status_code == 404
        answer = {"by": "Sam"}
        path = f"/partner/offers/{offer}/accept"
        assert (await client.post(path, json=answer, headers=others)).status_code == 404
        assert (await client.post(path, json={}, headers=theirs)).status_code == 422
        for _ in range(2):
            given = await client.post(path, json=answer, headers=theirs)
            assert given.json() == {"offer": offer, "status": "accepted"}
        assert (await triage.next_said("case-accepted"))["by"] == "Sam"
        no = {"by": "Sam", "reason": "other"}
        assert (
            await client.post(f"/partner/offers/{offer}/decline", json=no, headers=theirs)
        ).status_code == 409


async def test_a_partner_reads_its_own_queue_and_may_do_nothing_else(triage: Triage) -> None:
    async with triage.at(MORNING):
        await triage.receive(received(accepted_at=MORNING))
        await triage.next_said("enquiry-routed")
    ours, other = triage.tenant.partner_url("bevan-brittan"), triage.tenant.partner_url("bwb")
    async with triage.channel(ours) as channel:
        queue = await channel.get_queue("partner.bevan-brittan.cases", ensure=False)
        message = await queue.get()
        assert message.content_type == "application/cloudevents+json"
        event = json.loads(message.body)
        assert (event["type"], event["data"]["partner"]["slug"]) == ("enquiry.routed.v1", "bevan-brittan")
        await message.ack()
    async with triage.channel(other) as channel:
        queue = await channel.get_queue("partner.bwb.cases", ensure=False)
        assert await queue.get(fail=False) is None, "nothing of another's case"
    crossings = {
        "another's queue": lambda channel: channel.get_queue("partner.bevan-brittan.cases", ensure=False),
        "a service's queue": lambda channel: channel.get_queue("notifications.enquiry-routed", ensure=False),
    }
    for what, find in crossings.items():
        async with triage.channel(other) as channel:
            with pytest.raises(AMQPError, match="ACCESS_REFUSED"):
                await (await find(channel)).get(fail=False)
                raise AssertionError(f"{what} was read")
    async with triage.channel(other) as channel:
        with pytest.raises(AMQPError, match="ACCESS_REFUSED"):
            await channel.declare_queue("partner.bwb.more", durable=True)
    async with triage.channel(other) as channel:
        exchange = await channel.get_exchange("triage", ensure=False)
        with pytest.raises(AMQPError, match="ACCESS_REFUSED"):
            await exchange.publish(aio_pika.Message(b"{}"), "enquiry.routed.v1.bwb")


async def test_a_conflict_on_record_takes_the_offer_back_and_closes_the_case_to_the_partner(
    triage: Triage,
) -> None:
    key = {"Authorization": f"Bearer {triage.pipeline.partner_keys['bevan-brittan']}"}
    async with triage.at(MORNING) as client:
        await triage.receive(received(accepted_at=MORNING))
        routed = await triage.next_said("enquiry-routed")
        assert (await client.get(f"/partner/offers/{routed['offer']['id']}", headers=key)).status_code == 200
        conflict = {"partner": "bevan-brittan", "who": "Ada Obi", "why": "acts for the landlord"}
        assert (await client.post("/conflicts", json=conflict)).status_code == 422, "with whom?"
        conflict["domain"] = "example.com"
        made = (await client.post("/conflicts", json=conflict)).json()
        assert (await client.get(f"/partner/offers/{routed['offer']['id']}", headers=key)).status_code == 404
        assert (await client.get("/partner/cases", headers=key)).json() == []
        assert (await client.get(path_of(routed["offer"]["answer_url"]))).status_code == 404
        ended = await triage.next_said("offer-ended")
        assert (ended["partner"]["slug"], ended["how"]) == ("bevan-brittan", "withdrawn")
        assert "landlord" not in json.dumps(ended)
        assert (await triage.next_said("enquiry-routed"))["partner"]["slug"] == "bwb"
        # From now on it is not asked at all, until the conflict has ended.
        for number, expected in ((2, "bwb"), (3, "bevan-brittan")):
            event = received(accepted_at=MORNING, event_id=f"event-{number}")
            await triage.receive(event.model_copy(update={"correlationid": str(number) * 32}))
            assert (await triage.next_said("enquiry-routed"))["partner"]["slug"] == expected
            end = {"who": "Ada Obi", "why": "no longer acts"}
            assert (await client.post(f"/conflicts/{made['id']}/end", json=end)).status_code == 200
        [kept] = (await client.get("/conflicts")).json()
        assert (kept["who"], kept["ended_by"], kept["ends"]) == ("Ada Obi", "Ada Obi", "2018-09-23")


async def test_operators_decide_with_name_and_reason_on_what_they_have_seen(triage: Triage) -> None:
    async with triage.at(MORNING) as client:
        await triage.receive(received("Please send details.", "Mutuals", accepted_at=MORNING))
        await triage.next_said("enquiry-held")
        [line] = (await client.get("/cases")).json()
        path = f"/cases/{line['id']}"
        seen = {"who": "Ada Obi", "why": "rang them", "revision": line["revision"]}
        route = {**seen, "stream": "advice", "areas": ["financial"]}
        assert (await client.post(f"{path}/route", json={**route, "who": ""})).status_code == 422
        assert (await client.post(f"{path}/route", json=route)).json()["partner"] == "baxendale"
        assert (await client.post(f"{path}/route", json=route)).status_code == 409, "it has changed since"
        assert (await triage.next_said("enquiry-routed"))["areas"] == ["financial"]
        [correction] = (await client.get("/corrections")).json()
        assert correction["body"] == "Please send details."
        assert (correction["labels"]["disposition"], correction["labels"]["areas"]) == (
            "route",
            ["financial"],
        )
        close = {**seen, "revision": 2, "outcome": "enquirer-withdrew"}
        assert (await client.post(f"{path}/close", json=close)).json()["status"] == "closed"
        assert (await triage.next_said("offer-ended"))["partner"]["slug"] == "baxendale"
        reopened = await client.post(f"{path}/reopen", json={**seen, "revision": 3})
        assert reopened.json()["status"] == "held"
        case = (await client.get(path)).json()
        assert [ruling["what"] for ruling in case["rulings"]] == ["route", "close", "reopen"]
        assert (await client.get(f"/cases/{'f' * 32}")).status_code == 404
        nobody = {"Authorization": "Bearer guess"}
        for method, route_path in (("GET", "/cases"), ("GET", "/corrections"), ("POST", f"{path}/close")):
            assert (await client.request(method, route_path, headers=nobody, json=close)).status_code == 403
