"""Intake over HTTP: what is taken, what is refused and how it is said."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from services.intake.api import ApiOptions, enquiries
from services.intake.domain import ArrivedMail, Message, Outcome, accept
from services.intake.mail import Ours
from shared.store import Unavailable
from tests.conftest import eventually

OPTIONS = ApiOptions(
    ours=Ours(frozenset({"enquiries@programme.example"})),
    size_limit=100_000,
)
HOLDERS = {"token-1": "website", "token-2": "gateway"}
TOKEN = {"Authorization": "Bearer token-1"}
MAIL = b"From: jane@council.example\r\nSubject: Advice\r\nMessage-ID: <a@council.example>\r\n\r\nDear all\r\n"
RAW = TOKEN | {"Content-Type": "message/rfc822"}
FORM = {"name": "Jane Smith", "email": "jane@council.example", "subject": "Advice", "message": "Dear all"}
KEYED = TOKEN | {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}


class Shelf:
    """Where accepted messages are, as the decisions leave them."""

    def __init__(self) -> None:
        self.messages: dict[str, Message] = {}
        self.before: Callable[[], Awaitable[Any]] | None = None
        self.accepting: Callable[[], Awaitable[Any]] | None = None
        self.waiting = False

    async def accept(self, arrived: ArrivedMail) -> Outcome:
        if self.before:
            await self.before()
        if self.accepting:
            self.waiting = True
            await self.accepting()
        outcome = accept(self.messages.get(arrived.id), arrived, datetime(2018, 2, 1, tzinfo=UTC))
        self.messages[arrived.id] = outcome.state
        return outcome

    async def find(self, id: str) -> Message | None:
        if self.before:
            await self.before()
        return self.messages.get(id)

    async def holder(self, key: str) -> str | None:
        if self.before:
            await self.before()
        return HOLDERS.get(key)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def application(shelf: Shelf, options: ApiOptions = OPTIONS) -> FastAPI:
    app = FastAPI()
    app.include_router(enquiries(shelf.accept, shelf.find, shelf.holder, options))
    return app


def client_of(shelf: Shelf, options: ApiOptions = OPTIONS) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(application(shelf, options))
    return httpx.AsyncClient(transport=transport, base_url="http://intake.example")


@pytest.fixture
async def client(shelf: Shelf) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(shelf) as client:
        yield client


def assert_problem(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert problem["detail"]
    return problem


async def test_raw_message_is_accepted_and_the_same_again_is_the_same_enquiry(client, shelf):
    first = await client.post("/enquiries", content=MAIL, headers=RAW)
    again = await client.post("/enquiries", content=b"Received: by a hop\r\n" + MAIL, headers=RAW)
    assert (first.status_code, again.status_code) == (202, 202)
    (message,) = shelf.messages.values()
    told = {"reference": message.reference, "enquiry": message.id, "outcome": "began"}
    assert first.json() == told | {"duplicate": False}
    assert again.json() == first.json() | {"duplicate": True}
    assert first.headers["location"] == again.headers["location"] == f"/enquiries/{message.id}"
    assert (message.via, message.raw) == ("http-message", MAIL)


async def test_what_was_accepted_can_be_asked_for(client, shelf):
    accepted = await client.post("/enquiries", content=MAIL, headers=RAW)
    found = await client.get(accepted.headers["location"], headers=TOKEN)
    assert found.status_code == 200
    assert found.json() == {
        "reference": accepted.json()["reference"],
        "enquiry": accepted.json()["enquiry"],
        "accepted_at": "2018-02-01T00:00:00Z",
    }
    assert_problem(await client.get("/enquiries/" + "0" * 32, headers=TOKEN), 404)
    assert_problem(await client.get("/enquiries/nonsense", headers=TOKEN), 422)
    assert_problem(await client.get(accepted.headers["location"]), 401)


async def test_form_is_accepted_once_for_its_key(client, shelf):
    first = await client.post("/enquiries", json=FORM, headers=KEYED)
    again = await client.post("/enquiries", json=dict(reversed(FORM.items())), headers=KEYED)
    assert first.json()["duplicate"] is False
    assert again.json() == first.json() | {"duplicate": True}
    (message,) = shelf.messages.values()
    assert (message.via, message.sender.address, message.text) == (
        "http-form",
        "jane@council.example",
        "Dear all",
    )


async def test_key_used_for_another_form_is_refused(client, shelf):
    await client.post("/enquiries", json=FORM, headers=KEYED)
    assert_problem(await client.post("/enquiries", json=FORM | {"message": "Other"}, headers=KEYED), 422)
    assert len(shelf.messages) == 1


async def test_two_clients_may_use_the_same_key(client, shelf):
    await client.post("/enquiries", json=FORM, headers=KEYED)
    other = await client.post("/enquiries", json=FORM, headers=KEYED | {"Authorization": "Bearer token-2"})
    assert other.json()["duplicate"] is False
    assert len(shelf.messages) == 2


async def test_key_may_be_bare_but_must_be_there_and_printable(client):
    bare = await client.post("/enquiries", json=FORM, headers=TOKEN | {"Idempotency-Key": "abc"})
    quoted = await client.post("/enquiries", json=FORM, headers=TOKEN | {"Idempotency-Key": '"abc"'})
    assert quoted.json() == bare.json() | {"duplicate": True}
    assert_problem(await client.post("/enquiries", json=FORM, headers=TOKEN), 400)
    for key in ("", '""', "x" * 256, "a b", "é".encode()):
        assert_problem(
            await client.post("/enquiries", json=FORM, headers=TOKEN | {"Idempotency-Key": key}), 400
        )


async def test_form_that_is_not_valid_is_told_what_is_wrong_without_repeating_it(client, shelf):
    form = FORM | {"email": "no-address-at-all", "organisation": "x" * 201, "a/b~": 1}
    problem = assert_problem(await client.post("/enquiries", json=form, headers=KEYED), 422)
    assert {error["pointer"] for error in problem["errors"]} == {"/email", "/organisation", "/a~1b~0"}
    assert "no-address-at-all" not in str(problem)
    assert not shelf.messages


@pytest.mark.parametrize("body", [b"{", b"[]", b"null", b'{"name": "\\ud800"}', b"\xff"])
async def test_what_is_no_form_is_refused(client, shelf, body):
    response = await client.post(
        "/enquiries", content=body, headers=KEYED | {"Content-Type": "application/json"}
    )
    assert_problem(response, 422)
    assert not shelf.messages


@pytest.mark.parametrize("kind", ["text/plain", "", "multipart/form-data; boundary=x", "application/x-json"])
async def test_other_media_types_are_refused(client, kind):
    response = await client.post("/enquiries", content=MAIL, headers=TOKEN | {"Content-Type": kind})
    assert_problem(response, 415)
    assert response.headers["accept-post"] == "message/rfc822, application/json"


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic dG9rZW4tMQ==", "token-1"]
)
async def test_nobody_is_let_in_without_a_key(client, shelf, authorization):
    headers = {"Content-Type": "message/rfc822"} | (
        {} if authorization is None else {"Authorization": authorization}
    )
    response = await client.post("/enquiries", content=MAIL, headers=headers)
    assert_problem(response, 401)
    assert response.headers["www-authenticate"] == "Bearer"
    assert not shelf.messages


async def test_where_it_is_said_to_be_open_nobody_needs_a_key_but_a_wrong_one_is_refused(shelf):
    headers = {"Content-Type": "message/rfc822"}
    async with client_of(shelf, replace(OPTIONS, open_to_all=True)) as client:
        assert (await client.post("/enquiries", content=MAIL, headers=headers)).status_code == 202
        wrong = {"Authorization": "Bearer wrong"}
        assert_problem(await client.post("/enquiries", content=MAIL, headers=headers | wrong), 401)


async def test_body_too_large_is_refused_declared_or_not(client, shelf):
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1_000):
            yield b"x" * 1_000
        raise AssertionError("read to the end")

    assert_problem(await client.post("/enquiries", content=b"x" * 100_001, headers=RAW), 413)
    assert_problem(await client.post("/enquiries", content=endless(), headers=RAW), 413)
    assert_problem(await client.post("/enquiries", content=b"\r\n", headers=RAW), 400)
    assert not shelf.messages


async def test_bodies_of_all_requests_together_are_bounded(shelf):
    durable = asyncio.Event()
    async with client_of(shelf, replace(OPTIONS, memory_limit=150_000)) as client:
        large = MAIL + b"x" * 90_000
        first = asyncio.create_task(client.post("/enquiries", content=large, headers=RAW))
        shelf.accepting = durable.wait
        await eventually(lambda: shelf.waiting)
        second = await client.post("/enquiries", content=large, headers=RAW)
        assert_problem(second, 503)
        assert second.headers["retry-after"]
        shelf.accepting = None
        assert (await client.post("/enquiries", content=MAIL, headers=RAW)).status_code == 202
        durable.set()
        assert (await first).status_code == 202
        assert (await client.post("/enquiries", content=large, headers=RAW)).status_code == 202


async def test_body_that_does_not_come_is_not_waited_for(shelf):
    async def slow() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(10)

    async with client_of(shelf, replace(OPTIONS, body_timeout=0.05)) as client:
        assert_problem(await client.post("/enquiries", content=slow(), headers=RAW), 408)


async def test_client_is_told_to_come_back_while_the_store_is_away(shelf):
    async def away() -> None:
        raise Unavailable("away")

    async with client_of(shelf, replace(OPTIONS, accept_timeout=0.05)) as client:
        for trouble in (away, asyncio.Event().wait):
            shelf.before = trouble
            for response in (
                await client.post("/enquiries", content=MAIL, headers=RAW),
                await client.get("/enquiries/" + "0" * 32, headers=TOKEN),
            ):
                assert_problem(response, 503)
                assert response.headers["retry-after"] == "5"
        shelf.before = None
        assert (await client.post("/enquiries", content=MAIL, headers=RAW)).json()["duplicate"] is False


async def test_fault_of_ours_says_nothing_of_the_message(client, shelf):
    async def broken() -> None:
        raise KeyError("jane@council.example")

    shelf.before = broken
    assert "jane" not in str(assert_problem(await client.post("/enquiries", content=MAIL, headers=RAW), 500))


def test_everything_is_documented(shelf):
    paths = application(shelf).openapi()["paths"]
    post = paths["/enquiries"]["post"]
    assert set(post["requestBody"]["content"]) == {"application/json", "message/rfc822"}
    assert set(post["responses"]) == {"202", "400", "401", "408", "413", "415", "422", "500", "503"}
    assert post["responses"]["422"]["content"].keys() == {"application/problem+json"}
    assert {parameter["name"] for parameter in post["parameters"]} == {"Idempotency-Key", "via"}
    assert post["security"]
    assert paths["/enquiries/{enquiry}"]["get"]["security"]
