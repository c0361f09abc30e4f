"""Kept messages read again: first it is shown what would change, then it is kept."""

from typing import Any

from tests.services.conftest import Intake

RAW = {"Content-Type": "message/rfc822"}
READ_BADLY = {"state.text": "d?ar all", "state.parse_error": "a charset nobody knows"}


async def accepted(intake: Intake, name: str) -> dict[str, Any]:
    mail = f"From: jane@council.example\r\nSubject: Advice\r\nMessage-ID: <{name}@council.example>\r\n\r\nDear all\r\n"
    async with intake.client() as client:
        receipt = (await client.post("/enquiries", content=mail.encode(), headers=RAW)).json()
    return kept(intake, receipt["enquiry"])


def kept(intake: Intake, id: str) -> dict[str, Any]:
    (document,) = intake.messages({"_id": id})
    return document


def change(intake: Intake, id: str, **state: Any) -> None:
    collection = intake.database[intake.tenant.database("intake")]["messages"]
    collection.update_one({"_id": id}, {"$set": READ_BADLY | {f"state.{k}": v for k, v in state.items()}})


async def test_what_would_change_is_shown_and_only_applied_when_told(intake: Intake) -> None:
    document = await accepted(intake, "reparse1")
    id, reference = document["_id"], document["state"]["reference"]
    change(intake, id)
    shown = await intake.run("cli", "reparse", reference.lower(), "--operator", "Ada")
    assert shown.returncode == 0, shown.stderr
    said = shown.stdout.decode()
    assert "text: d?ar all -> Dear all" in said
    assert "parse_error: a charset nobody knows -> None" in said
    assert "1 of 1 messages would change." in said
    assert kept(intake, id)["state"]["text"] == "d?ar all"
    await intake.run("cli", "reparse", reference, "--apply", "--operator", "Ada")
    state = kept(intake, id)["state"]
    assert state == document["state"], "what had followed from it stays as it was"
    again = await intake.run("cli", "reparse", reference, "--operator", "Ada")
    assert b"0 of 1 messages would change." in again.stdout


async def test_a_held_message_that_can_be_read_now_begins_its_enquiry(intake: Intake) -> None:
    document = await accepted(intake, "reparse2")
    id = document["_id"]
    change(intake, id, outcome="held", held="unreadable", reference="")
    operator = intake.client(intake.pipeline.operator_token)
    async with operator as client:
        assert (await client.get("/messages", params={"held": True})).json() == [id]
        answer = await client.post(f"/messages/{id}/reparse", json={"operator": "Ada", "apply": True})
        assert answer.json()["applied"] is True
        assert (await client.get("/messages", params={"held": True})).json() == []
        assert (await client.post(f"/messages/{'0' * 32}/reparse", json={"operator": "A"})).status_code == 404
    now = kept(intake, id)
    assert (now["state"]["outcome"], now["state"]["held"]) == ("began", "")
    assert now["state"]["reference"] == document["state"]["reference"]
    assert (now["state"]["decided_by"], now["state"]["decided_why"]) == ("Ada", "read again")
    assert [said["type"] for said in now["inbox"][-1]["said"]] == ["enquiry.received.v1"]


async def test_forms_are_left_out(intake: Intake) -> None:
    form = {"name": "Jane", "email": "jane@council.example", "subject": "Advice", "message": "Dear all"}
    async with intake.client() as client:
        sent = await client.post("/enquiries", json=form, headers={"Idempotency-Key": "reparse"})
    async with intake.client(intake.pipeline.operator_token) as client:
        listed = await client.get("/messages", params={"enquiry": sent.json()["enquiry"]})
        assert listed.json() == []
