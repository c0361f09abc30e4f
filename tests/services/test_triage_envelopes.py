"""Envelopes on the real database: many who race for the last pounds, and what operators ask over HTTP."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from deploy.local.servers import Tenant
from services.triage.desk import Cases, Desk
from services.triage.domain import Case, route
from services.triage.domain import Outcome as CaseOutcome
from services.triage.envelopes.api import Envelopes, envelope_routes, take
from services.triage.envelopes.domain import Envelope, Order, Outcome, Refused, Repeated, Reserved
from services.triage.events import announce
from services.triage.handlers import reserve_money
from services.triage.standing import Board
from shared.clock import clock
from shared.contracts.triage import CaseAccepted
from shared.operators import guard
from shared.store import Aggregates, Already, Incoming
from shared.store.cause import Cause
from shared.store.database import Store
from tests.conftest import eventually
from tests.unit.triage_examples import IN_WINDOW, received, the_programme

ENQUIRY = received().correlationid
TOKEN = "for-tests-only"
LAST_POUNDS = 250_000_00
EACH = 2_499_99


@asynccontextmanager
async def replica(tenant: Tenant) -> AsyncIterator[tuple[Envelopes, Aggregates[Case, CaseOutcome]]]:
    """What one triage process has of the envelopes and the cases. They announce nothing, so no broker is needed."""

    class Silent:
        async def publish(self, entry: object) -> None:
            raise AssertionError(f"nothing is said, and this was: {entry}")

    store = Store(tenant.mongodb_url("triage"), "triage", clock())
    envelopes: Envelopes = store.aggregates("envelopes", Envelope, lambda *_: [], remember=2)
    cases: Aggregates[Case, CaseOutcome] = store.aggregates("cases", Case, lambda *_: [])
    await store.start(Silent())
    yield envelopes, cases
    await store.stop()


def order(id: str, pence: int, enquiry: str) -> Order:
    return Order(id, "reserve", enquiry, "MSP-7F3K-2Q", "baxendale", pence, "Ada Obi", "accepted", IN_WINDOW)


async def test_a_thousand_reservations_racing_for_the_last_pounds_never_exceed_the_envelope(
    tenant: Tenant,
) -> None:
    limit = the_programme().limit("advice")
    async with AsyncExitStack() as stack:
        first, _ = await stack.enter_async_context(replica(tenant))
        second, _ = await stack.enter_async_context(replica(tenant))
        await take(first, "advice", order("before", limit - LAST_POUNDS, "before"), the_programme())

        async def race(n: int) -> Outcome:
            """Every tenth asks twice at once, as a message delivered again does, at the other replica too."""
            mine, other = (first, second) if n % 2 else (second, first)
            asked = order(f"order-{n}", EACH, f"enquiry-{n}")
            answers = await asyncio.gather(
                take(mine, "advice", asked, the_programme()),
                *([take(other, "advice", asked, the_programme())] if n % 10 == 0 else []),
            )
            fresh = [answer for answer in answers if not isinstance(answer, Repeated)]
            assert len([answer for answer in answers if isinstance(answer, Reserved)]) <= 1
            return fresh[0]

        ended = Counter(type(outcome) for outcome in await asyncio.gather(*(race(n) for n in range(1_000))))
        there = await first.get("advice")
    assert there is not None
    places = LAST_POUNDS // EACH
    assert ended == {Reserved: places, Refused: 1_000 - places}
    assert there.reserved == limit - LAST_POUNDS + places * EACH <= limit
    assert there.moved == len(there.accounts) == places + 1
    assert sum(account.reserved for account in there.accounts.values()) == there.reserved


@asynccontextmanager
async def a_desk(tenant: Tenant) -> AsyncIterator[tuple[Desk, Envelopes, CaseAccepted, list[str]]]:
    """A case of three days' work that Bevan Brittan has accepted, the event that says so, and what is said next."""
    said: list[str] = []

    class Heard:
        async def publish(self, entry: Any) -> None:
            said.append(entry.type)

    async def no_conflicts() -> tuple[()]:
        return ()

    store = Store(tenant.mongodb_url("triage"), "triage", lambda: IN_WINDOW)
    envelopes: Envelopes = store.aggregates("envelopes", Envelope, lambda *_: [], remember=2)
    cases: Cases = store.aggregates("cases", Case, announce)
    await store.start(Heard())
    async with Board(cases, no_conflicts) as board:
        desk = Desk(cases, the_programme(), lambda: IN_WINDOW, board)
        await desk.route(received())
        outcome = await desk.accept(f"{ENQUIRY}-1", "bevan-brittan", "Mona Ray", None)
        [event] = announce(outcome, Cause("accepting", ENQUIRY, ENQUIRY, IN_WINDOW))
        assert isinstance(event, CaseAccepted)
        await eventually(lambda: len(said) == 2)
        said.clear()
        yield desk, envelopes, event, said
    await store.stop()


async def test_a_partners_acceptance_reserves_its_days_once(tenant: Tenant) -> None:
    async with a_desk(tenant) as (desk, envelopes, event, said):
        for _ in range(2):
            await reserve_money(event, desk, envelopes)
        there = await envelopes.get("advice")
    assert there is not None
    assert (there.reserved, there.moved) == (3 * 600_00, 1)
    [movement] = there.accounts[ENQUIRY].movements
    assert movement[2:7] == (
        "reserve",
        1_800_00,
        "bevan-brittan",
        "Mona Ray",
        "accepted, for 3 working days",
    )
    assert said == []


async def test_what_the_envelope_has_no_money_for_goes_back_to_the_operators_and_the_partner_is_told(
    tenant: Tenant,
) -> None:
    async with a_desk(tenant) as (desk, envelopes, event, said):
        left = the_programme().limit("advice") - 1_799_99
        await take(envelopes, "advice", order("before", left, "before"), the_programme())
        for _ in range(2):
            await reserve_money(event, desk, envelopes)
        case = await desk.cases.get(ENQUIRY)
        assert case is not None
        assert (case.status, case.decision.reason, case.partner) == ("held", "no-money", None)
        assert "£1,799.99 of £1,200,000.00 are free" in case.decision.why
        await eventually(lambda: len(said) == 2)
    assert sorted(said) == ["enquiry.held.v1", "offer.ended.v1"]


@pytest.fixture
async def operator(tenant: Tenant) -> AsyncIterator[httpx.AsyncClient]:
    """An operator who asks triage; it has one case, with Bevan Brittan, in the advice stream."""
    async with replica(tenant) as (envelopes, cases):
        event = received()
        opened = await cases.apply(
            Incoming("opening", "enquiry", ENQUIRY),
            lambda case: route(case, event, the_programme(), IN_WINDOW),
        )
        assert not isinstance(opened, Already) and opened.state.partner is not None
        app = FastAPI()
        app.include_router(
            envelope_routes(envelopes, cases, the_programme(), clock(), guard(SecretStr(TOKEN)))
        )
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://triage",
            headers={"Authorization": f"Bearer {TOKEN}"},
        ) as client:
            yield client


def ordered(kind: str, pence: int, **more: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "enquiry": ENQUIRY,
        "pence": pence,
        "operator": "Ada Obi",
        "reason": "as agreed",
        **more,
    }


async def test_an_operator_moves_money_and_sees_every_movement_with_who_and_why(
    operator: httpx.AsyncClient,
) -> None:
    for kind, pence in (("reserve", 4_800_00), ("match", 500_00), ("commit", 4_500_00), ("spend", 1_200_50)):
        answer = await operator.post("/envelopes/advice/movements", json=ordered(kind, pence))
        assert answer.status_code == 200, answer.text
    advice = (await operator.get("/envelopes/advice")).json()
    assert advice == {
        "stream": "advice",
        "limit": 1_200_000_00,
        "free": 1_200_000_00 - 4_800_00,
        "reserved": 300_00,
        "committed": 3_299_50,
        "spent": 1_200_50,
        "matched": 500_00,
        "cases": 1,
        "movements": 4,
        "accounts": [
            {
                "enquiry": ENQUIRY,
                "reference": "MSP-7F3K-2Q",
                "partner": "bevan-brittan",
                "reserved": 300_00,
                "committed": 3_299_50,
                "spent": 1_200_50,
                "matched": 500_00,
            }
        ],
    }
    listed = (await operator.get("/envelopes/advice/movements", params={"enquiry": ENQUIRY})).json()
    assert [(each["number"], each["kind"]) for each in listed] == [
        (1, "reserve"),
        (2, "match"),
        (3, "commit"),
        (4, "spend"),
    ]
    assert {(each["who"], each["why"], each["partner"]) for each in listed} == {
        ("Ada Obi", "as agreed", "bevan-brittan")
    }
    both = (await operator.get("/envelopes")).json()
    assert [(each["stream"], each["free"]) for each in both] == [
        ("advice", 119_520_000),
        ("pilot", 50_000_000),
    ]


async def test_an_order_sent_twice_is_carried_out_once(operator: httpx.AsyncClient) -> None:
    again = ordered("reserve", 100_00, id="0" * 32)
    answers = [(await operator.post("/envelopes/advice/movements", json=again)).json() for _ in range(2)]
    assert [answer["outcome"] for answer in answers] == ["Reserved", "Repeated"]
    assert answers[1]["reserved"] == 100_00


REFUSED = [
    ("advice", ordered("reserve", 1_200_000_01), 409, "£1,200,000.00 are free"),
    ("advice", ordered("spend", 1), 409, "Nothing has been reserved"),
    ("pilot", ordered("reserve", 1), 409, "no partner in the pilot stream"),
    ("advice", ordered("reserve", 1, enquiry="f" * 32), 404, "no such case"),
    ("advice", ordered("reserve", 0), 422, "pence"),
    ("advice", ordered("reserve", 1.5), 422, "pence"),
    ("advice", ordered("reserve", 1, reason=""), 422, "reason"),
    ("advice", ordered("give", 1), 422, "kind"),
    ("other", ordered("reserve", 1), 422, "stream"),
]


async def test_what_cannot_be_done_is_refused_with_the_reason_and_moves_nothing(
    operator: httpx.AsyncClient,
) -> None:
    for stream, given, status, words in REFUSED * 2:
        answer = await operator.post(f"/envelopes/{stream}/movements", json=given)
        assert (answer.status_code, words in answer.text) == (status, True), answer.text
    assert {each["movements"] for each in (await operator.get("/envelopes")).json()} == {0}


async def test_an_order_that_was_refused_is_not_taken_for_one_that_was_carried_out(
    operator: httpx.AsyncClient,
) -> None:
    again = ordered("reserve", 1_200_000_01, id="0" * 32)
    for _ in range(2):
        assert (await operator.post("/envelopes/advice/movements", json=again)).status_code == 409


async def test_nobody_sees_or_moves_money_without_the_operators_token(operator: httpx.AsyncClient) -> None:
    for headers in ({"Authorization": ""}, {"Authorization": "Bearer wrong"}):
        for path in ("/envelopes", "/envelopes/advice", "/envelopes/advice/movements"):
            assert (await operator.get(path, headers=headers)).status_code in {401, 403}
        answer = await operator.post(
            "/envelopes/advice/movements", headers=headers, json=ordered("reserve", 1)
        )
        assert answer.status_code in {401, 403}
