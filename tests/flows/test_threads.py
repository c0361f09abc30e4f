"""Answers find their enquiry through the running system, and strangers do not get in."""

import asyncio
from collections import Counter
from email.message import EmailMessage
from itertools import count

import aio_pika

from deploy.local.pipeline import ADDRESS, OPERATORS
from tests.conftest import eventually
from tests.flows.correspondence import Correspondence, parsed, routable, text_of
from tests.mailsink import Arrival

SUBJECT, TEXT = routable()


async def enquiry_of(system: Correspondence, sender: str) -> tuple[dict[str, object], str]:
    """An enquiry that went to a partner: its case, and the partner's address."""
    await system.send(sender, SUBJECT, TEXT)
    case = await system.state("triage", "cases", **{"enquirer.address": sender})
    assert case["status"] == "routed", case["decision"]["why"]
    return case, case["partner"]["address"]


async def test_enquirers_answer_to_our_mail_reaches_the_partner_who_has_the_case(
    system: Correspondence,
) -> None:
    jane = "jane@northfield.example"
    case, partner = await enquiry_of(system, jane)
    acknowledgement = await system.mail_to(jane)
    acknowledgement.replace_header("Reply-To", str(acknowledgement["Reply-To"]).upper())
    await system.answer(acknowledgement, jane, "The board meets on 3 October.")
    passed_on = await system.mail_to(partner, "The board meets on 3 October.")
    assert str(case["reference"]) in passed_on["Subject"]
    [noted] = (await system.state("triage", "cases", enquiry_id=case["enquiry_id"]))["follow_ups"]
    assert (noted["party"], noted["author"]["address"]) == ("enquirer", jane)
    joined = await system.state("intake", "messages", outcome="followed-up", enquiry=case["enquiry_id"])
    assert joined["tie"] == "reply-address"
    assert len(system.mails_to(jane)) == 1, "what goes on is not acknowledged again"


async def test_partners_answer_goes_to_the_operators_and_not_to_the_enquirer(system: Correspondence) -> None:
    joan = "joan@eastfield.example"
    case, partner = await enquiry_of(system, joan)
    given = await system.mail_to(partner, str(case["reference"]))
    colleague = f"b.lee@{partner.partition('@')[2]}"
    await system.answer(given, colleague, "We act for the council and cannot take this.")
    told = await system.mail_to(OPERATORS, "cannot take this")
    assert "partner" in told["Subject"] and str(case["reference"]) in told["Subject"]
    assert not system.mails_to(joan, "cannot take this")
    assert len(system.mails_to(partner, str(case["reference"]))) == 1


async def test_stranger_who_knows_the_reference_is_held_until_an_operator_says(
    system: Correspondence,
) -> None:
    mary = "mary@southfield.example"
    case, partner = await enquiry_of(system, mary)
    stranger = "sam@elsewhere.example"
    await system.send(stranger, f"About {case['reference']}", "Pay us instead.")
    held = await system.state("intake", "messages", author=stranger)
    assert (held["outcome"], held["held"]) == ("held", "not-a-correspondent")
    told = await system.mail_to(OPERATORS, held["id"])
    assert str(case["reference"]) in text_of(told)
    await system.settled()
    assert not system.mails_to(partner, "Pay us instead.")
    assert not system.mails_to(stranger)
    assert system.states("triage", "cases", enquiry_id=case["enquiry_id"])[0]["follow_ups"] == []

    assert held["id"] in (await system.cli("services.intake.cli", "held", "list")).stdout
    record = ("--operator", "Ada Obi", "--reason", "her treasurer")
    join = ("held", "join", held["id"], str(case["reference"]).lower())
    joined = await system.cli("services.intake.cli", *join, *record)
    assert joined.stdout == f"{held['id']}: followed-up {case['reference']}\n", joined.stderr
    await system.mail_to(partner, "Pay us instead.")
    again = await system.cli("services.intake.cli", *join, *record)
    assert again.returncode == 1 and "409" in again.stderr, "it is decided once"
    await system.send(stranger, f"Re: {case['reference']}", "Now that you know me.")
    await system.mail_to(partner, "Now that you know me.")
    story = (await system.cli("shared.cli", "case", str(case["reference"]), "--json")).stdout
    for words in ("held-message.join", "Ada Obi: her treasurer", "2 follow-ups", "case.followed-up.v1"):
        assert words in story


async def test_held_message_can_begin_an_enquiry_or_be_discarded(system: Correspondence) -> None:
    anne = "anne@lowfield.example"
    case, _ = await enquiry_of(system, anne)
    ids = {}
    for stranger in ("paul@elsewhere.example", "spam@elsewhere.example"):
        await system.send(stranger, f"About {case['reference']}", TEXT)
        ids[stranger] = (await system.state("intake", "messages", author=stranger))["id"]
    record = ("--operator", "Ada Obi", "--reason", "another matter")
    begun = await system.cli("services.intake.cli", "held", "begin", ids["paul@elsewhere.example"], *record)
    assert ": began MSP-" in begun.stdout, begun.stderr
    await system.mail_to("paul@elsewhere.example", "We have received your enquiry")
    dropped = await system.cli(
        "services.intake.cli", "held", "discard", ids["spam@elsewhere.example"], *record
    )
    assert ": discarded" in dropped.stdout, dropped.stderr
    kept = await system.state("intake", "messages", author="spam@elsewhere.example")
    assert (kept["outcome"], kept["decided_by"], kept["decided_why"]) == (
        "discarded",
        "Ada Obi",
        "another matter",
    )


async def test_answer_that_comes_before_its_original_is_joined_by_it(system: Correspondence) -> None:
    ruth = "ruth@westfield.example"
    original = "<original.1@writer.example>"
    await system.send(ruth, f"Re: {SUBJECT}", f"One more thing.\n\n{TEXT}", In_Reply_To=original)
    began = await system.state("intake", "messages", author=ruth)
    assert began["outcome"] == "began"
    await system.send(ruth, SUBJECT, TEXT, Message_ID=original)
    joined = await system.state("intake", "messages", author=ruth, outcome="followed-up")
    assert (joined["enquiry"], joined["tie"]) == (began["id"], "answered-before")
    await system.settled()
    assert len(system.mails_to(ruth)) == 1, "one enquiry, one acknowledgement"


async def test_follow_up_that_overtakes_its_enquiry_waits_for_the_case(system: Correspondence) -> None:
    nora = "nora@midfield.example"
    triage = system.pipeline.services["triage"]
    await asyncio.to_thread(triage.kill)
    first = await system.send(nora, SUBJECT, TEXT)
    await system.send(nora, f"Re: {SUBJECT}", "And the pensions.", In_Reply_To=first)
    began = await system.state("intake", "messages", author=nora, outcome="began")
    await system.state("intake", "messages", author=nora, outcome="followed-up", enquiry=began["id"])

    async def depth(queue: str) -> int:
        return int((await asyncio.to_thread(system.tenant.queue_depths)).get(queue, 0))

    async with system.broker() as channel:
        queue = await channel.get_queue("triage.enquiry-received")

        async def taken() -> aio_pika.abc.AbstractIncomingMessage | None:
            return await queue.get(fail=False)

        received = None
        while received is None:
            received = await taken()
        await asyncio.to_thread(triage.start)

        async def waits() -> bool:
            return await depth("triage.retry.5s") == 1

        await eventually(waits, 30, "the follow-up waits for the case")
        await received.nack(requeue=True)

    async def noted() -> bool:
        return any(case["follow_ups"] for case in system.states("triage", "cases", enquiry_id=began["id"]))

    await eventually(noted, 30, "the follow-up is noted with its case")
    await system.settled()
    assert not system.states("triage", "failed_messages")


async def test_mail_to_a_partner_that_comes_back_is_marked_and_told_once(system: Correspondence) -> None:
    lena = "lena@highfield.example"
    case, partner = await enquiry_of(system, lena)
    given = await system.mail_to(partner, str(case["reference"]))
    for number in range(3):
        await system.bounce(given, partner, number)
    sent = await system.state(
        "notifications", "notifications", message_id=str(given["Message-ID"]), status="bounced"
    )
    assert "No such mailbox" in sent["failed_because"]
    await system.mail_to(OPERATORS, "Not delivered")
    await system.settled()
    told = [
        mail
        for mail in system.mails_to(OPERATORS, "Not delivered")
        if str(case["reference"]) in mail["Subject"]
    ]
    assert len(told) == 1


# Never a loop, never a storm


async def test_machines_that_answer_each_other_and_a_storm_of_bounces_lead_to_few_mails(
    system: Correspondence,
) -> None:
    """Two machines answer everything, one as it should; the operators' mailbox answers too. The bound: each of the
    two gets the 20 acknowledgements of a day, and one mail goes out about each of the 21 enquiries it began."""
    away, robot = "away@northfield.example", "robot@machines.example"

    async def out_of_office(mail: EmailMessage, arrival: Arrival) -> None:
        """Answers as RFC 3834 asks."""
        await system.send(
            arrival.recipient,
            f"Out of office: {mail['Subject']}",
            "I am away until Monday.",
            to=arrival.sender,
            envelope="",
            In_Reply_To=str(mail["Message-ID"]),
            Auto_Submitted="auto-replied",
        )

    async def answers_everything(mail: EmailMessage, arrival: Arrival) -> None:
        """Sets nothing, quotes nothing, and answers From."""
        text = f"Your request {next(numbers)} has reached the service desk. We will deal with it in turn."
        await system.send(arrival.recipient, "Your request", text, to=mail["From"].addresses[0].addr_spec)

    await system.settled()
    numbers = count(1)
    before = len(system.sink.arrivals)
    system.responders |= {away: out_of_office, robot: answers_everything, OPERATORS: answers_everything}
    case, partner = await enquiry_of(system, away)
    given = await system.mail_to(partner, str(case["reference"]))
    system.responders[partner] = answers_everything
    await system.send(robot, SUBJECT, TEXT)
    for start in range(0, 500, 50):
        numbered = range(start, start + 50)
        await asyncio.gather(
            *(system.bounce(given, "gone@partner.example", n, to="" if n % 2 else ADDRESS) for n in numbered)
        )
    await system.settled()
    came = system.sink.arrivals[before:]
    print(Counter((each.recipient, parsed(each)["Subject"].split("MSP")[0]) for each in came))
    assert len([each for each in came if each.recipient == robot]) == 20
    assert len([each for each in came if each.recipient == away]) == 1
    assert len(came) <= 2 * (20 + 21) + 10, "the rest: a case, its acknowledgement, three notices"
    assert len(system.mails_to(OPERATORS, "Mail is being held back")) == 1
    assert system.states("notifications", "notifications", status="suppressed")

    # What was sent is remembered where it is durable.
    notifications = system.pipeline.services["notifications"]
    await asyncio.to_thread(notifications.kill)
    await asyncio.to_thread(notifications.start)
    await system.send(robot, SUBJECT, TEXT)
    await system.settled()
    assert len([each for each in system.sink.arrivals[before:] if each.recipient == robot]) == 20
