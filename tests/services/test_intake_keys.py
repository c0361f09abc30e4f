"""API keys: made, listed and revoked by an operator, and what each lets a client do."""

import httpx

from tests.services.conftest import Intake

MAIL = (
    b"From: jane@council.example\r\nSubject: Advice\r\nMessage-ID: <%b@council.example>\r\n\r\nDear all\r\n"
)
RAW = {"Content-Type": "message/rfc822"}


def operator(intake: Intake) -> httpx.AsyncClient:
    return intake.client(intake.pipeline.operator_token)


async def test_a_key_lets_its_client_in_until_it_is_revoked(intake: Intake) -> None:
    made = await intake.run("cli", "keys", "create", "gateway")
    assert made.returncode == 0, made.stderr
    key = made.stdout.decode().strip()
    assert len(key) == 43
    async with intake.client(key) as client:
        assert (await client.post("/enquiries", content=MAIL % b"k1", headers=RAW)).status_code == 202
        revoked = await intake.run("cli", "keys", "revoke", "gateway")
        assert revoked.returncode == 0, revoked.stderr
        refused = await client.post("/enquiries", content=MAIL % b"k2", headers=RAW)
        assert refused.status_code == 401
    listed = (await intake.run("cli", "keys", "list")).stdout.decode()
    assert [line.split()[1:4:2] for line in listed.splitlines() if " │ " in line] == [
        ["gateway", "revoked"],
        ["web-form", "active"],
    ]


async def test_a_name_is_one_keys_until_that_is_revoked(intake: Intake) -> None:
    first, second = ({"name": "archive", "digest": digit * 64} for digit in "12")
    async with operator(intake) as client:
        for sent, status in ((first, 201), (first, 201), (second, 409), (first | {"name": "b"}, 409)):
            assert (await client.post("/keys", json=sent)).status_code == status
        assert (await client.post("/keys/archive/revoke")).status_code == 200
        assert (await client.post("/keys/archive/revoke")).status_code == 404
        for sent, status in ((first, 409), (second, 201)):  # what was revoked stays so
            assert (await client.post("/keys", json=sent)).status_code == status
        for wrong in ({"name": "Archive"}, {"name": ""}, {"digest": "1"}, {"digest": "A" * 64}):
            assert (await client.post("/keys", json=second | wrong)).status_code == 422


async def test_no_key_is_kept_in_the_clear_and_none_made_without_the_operators_token(intake: Intake) -> None:
    kept = list(intake.database[intake.tenant.database("intake")]["api_keys"].find())
    assert kept
    assert intake.pipeline.web_form_key not in str(kept)
    async with intake.client() as client:  # the key of a client is no operator's token
        for method, path in (("GET", "/keys"), ("POST", "/keys"), ("POST", "/keys/web-form/revoke")):
            body = {"name": "mine", "digest": "0" * 64}
            assert (await client.request(method, path, json=body)).status_code == 403
