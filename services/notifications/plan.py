"""What is written to whom for which event."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Literal

from services.notifications.budget import acknowledgements_to, mails_about, mails_because_of
from services.notifications.content import (
    TEMPLATE_VERSIONS,
    Acknowledgement,
    BouncedForOperator,
    CaseForPartner,
    CaseTaken,
    Content,
    FollowUpForOperator,
    FollowUpForPartner,
    HeldBackForOperator,
    HeldForOperator,
    HeldMailForOperator,
    MentoringHeldForOperator,
    OfferOver,
    SessionInvitation,
)
from services.notifications.domain import Draft, Letterhead, Notification
from shared.contracts.cloudevents import CloudEvent, Person
from shared.contracts.intake import EnquiryReceived, MailHeld
from shared.contracts.mentoring import MentoringHeld, SessionBooked
from shared.contracts.replies import Party
from shared.contracts.triage import (
    CaseAccepted,
    CaseFollowedUp,
    EnquiryHeld,
    EnquiryRouted,
    OfferEnded,
    Partner,
)

# A Message-ID we are ready to repeat in our own headers (RFC 5322 §3.6.4, without its comments and quoting).
# It was written by a stranger: anything else is left out, which costs that person's reader the thread and
# nobody anything.
_MESSAGE_ID = re.compile(r"<[!-;=?A-Z\[-~]{1,400}@[!-;=?A-Z\[-~]{1,400}>")

TOLD_WHEN_BOUNCED = frozenset({"case-for-partner", "follow-up-for-partner", "session-invitation"})
"""Mails somebody waits for. Operators are not told of the others: an acknowledgement comes back whenever spam with
an invented address is answered, and a mail to the operators that came back is not mended by another."""


@dataclass(frozen=True, slots=True)
class _Occasion:
    """What a mail is written for: its cause's id, from which its own follows, and the enquiry."""

    cause: str
    enquiry_id: str
    letterhead: Letterhead


def plan(event: CloudEvent, letterhead: Letterhead) -> tuple[Draft, ...]:
    """The mails `event` asks for, at most one for each recipient and template. An event nobody is written to
    about asks for none."""
    drafts = {draft.id: draft for draft in _plan(event, letterhead)}
    return tuple(drafts.values())


def _plan(event: CloudEvent, letterhead: Letterhead) -> Iterator[Draft]:  # noqa: PLR0912 - a table
    occasion = _Occasion(event.id, event.correlationid, letterhead)
    match event:
        case EnquiryReceived(data=enquiry):
            # Nothing automatic answers what is automatic, nor our own people, whose mailbox may answer by itself.
            writer = enquiry.sender.address
            automatic = enquiry.suppress_reply or enquiry.automated_evidence
            if not automatic and not _is_operators(letterhead, writer):
                applications, opens = letterhead.windows.at(enquiry.accepted_at)
                yield _draft(
                    occasion,
                    enquiry.sender,
                    enquiry.reference,
                    Acknowledgement(received_at=enquiry.accepted_at, applications=applications, opens=opens),
                    party="enquirer",
                    budgets=(acknowledgements_to(writer),),
                    in_reply_to=enquiry.message_id if _MESSAGE_ID.fullmatch(enquiry.message_id) else "",
                )
        case EnquiryRouted(data=case):
            content = CaseForPartner(
                partner=case.partner.name,
                stream=case.stream,
                areas=case.areas,
                theme=case.pilot_theme,
                mentoring=case.mentoring,
                why=case.why,
                enquirer=case.enquirer,
                subject=case.subject,
                text=case.text,
                answer_by=case.offer.expires_at if case.offer else None,
                answer_url=case.offer.answer_url if case.offer else "",
            )
            because = (mails_because_of(case.enquirer.address),)
            yield _draft(
                occasion, _at(case.partner), case.reference, content, party="partner", budgets=because
            )
        case CaseAccepted(data=taken):
            if not taken.suppress_reply and not _is_operators(letterhead, taken.enquirer.address):
                yield _draft(
                    occasion,
                    taken.enquirer,
                    taken.reference,
                    CaseTaken(partner=taken.partner.name),
                    party="enquirer",
                    budgets=(mails_because_of(taken.enquirer.address),),
                    in_reply_to=taken.message_id if _MESSAGE_ID.fullmatch(taken.message_id) else "",
                )
        case OfferEnded(data=ended):
            over = OfferOver(partner=ended.partner.name, how=ended.how, why=ended.why)
            yield _draft(occasion, _at(ended.partner), ended.reference, over, party="partner", budgets=())
        case EnquiryHeld(data=held):
            # Machines' mail is never told to the operators, and neither is what comes from their own mailbox:
            # were it to answer by itself (out of office), the answer would be held and told to them again.
            if held.disposition != "auto":
                yield from _to_operators(
                    occasion,
                    held.reference,
                    HeldForOperator(
                        disposition=held.disposition,
                        reason=held.reason,
                        why=held.why,
                        enquirer=held.enquirer,
                        subject=held.subject,
                    ),
                    because_of=held.enquirer,
                )
        case SessionBooked(data=session):
            people: tuple[tuple[Literal["mentee", "mentor"], Person], ...] = (
                ("mentee", session.mentee),
                ("mentor", session.mentor),
            )
            for role, person in people:
                invitation = SessionInvitation(
                    role=role,
                    uid=session.uid,
                    sequence=session.sequence,
                    mentor=session.mentor,
                    mentee=session.mentee,
                    areas=session.areas,
                    starts=session.starts,
                    zone=session.zone,
                    minutes=session.minutes,
                    where=session.where,
                )
                because = (mails_because_of(session.mentee.address),)
                yield _draft(occasion, person, session.reference, invitation, party=role, budgets=because)
        case MentoringHeld(data=request):
            yield from _to_operators(
                occasion,
                request.reference,
                MentoringHeldForOperator(
                    kind=request.kind, reason=request.reason, why=request.why, mentee=request.mentee
                ),
                because_of=request.mentee,
            )
        case CaseFollowedUp(data=said):
            attachments = tuple(each.name for each in said.attachments)
            if said.party == "enquirer" and said.partner is not None:
                passed_on = FollowUpForPartner(
                    partner=said.partner.name,
                    author=said.author,
                    subject=said.subject,
                    text=said.text,
                    attachments=attachments,
                )
                budgets = (mails_because_of(said.author.address), mails_about(said.reference))
                yield _draft(
                    occasion, _at(said.partner), said.reference, passed_on, party="partner", budgets=budgets
                )
            elif said.party != "operator":
                # What partners and mentors answer us with is for the programme ("we cannot take this case"), and
                # may not be for the enquirer to read. To the enquirer they write themselves.
                yield from _to_operators(
                    occasion,
                    said.reference,
                    FollowUpForOperator(
                        party=said.party,
                        author=said.author,
                        subject=said.subject,
                        text=said.text,
                        attachments=attachments,
                    ),
                    because_of=said.author if said.party == "enquirer" else None,
                    about=said.reference,
                )
        case MailHeld(data=mail):
            yield from _to_operators(
                occasion,
                "",
                HeldMailForOperator(
                    message=mail.message,
                    why=mail.why,
                    candidates=mail.candidates,
                    author=mail.author,
                    subject=mail.subject,
                ),
                because_of=mail.author,
            )
        case _:
            return


def bounce_notice(bounced: Notification, letterhead: Letterhead) -> Draft | None:
    """What operators are told of a mail that came back: once for each mail, however often it does."""
    if bounced.status != "bounced" or bounced.content.template not in TOLD_WHEN_BOUNCED:
        return None
    content = BouncedForOperator(
        recipient=bounced.recipient, kind=bounced.content.template, why=bounced.failed_because
    )
    return _draft(
        _Occasion(f"bounced/{bounced.id}", bounced.enquiry_id, letterhead),
        letterhead.operators,
        bounced.reference,
        content,
        party="operator",
        budgets=(mails_about(bounced.reference),),
    )


def held_back_notice(held_back: Notification, letterhead: Letterhead, at: datetime) -> Draft:
    """What operators are told when mail is held back: once a day, by the first of that day."""
    content = HeldBackForOperator(
        reference=held_back.reference, why=held_back.failed_because, day=f"{at:%-d %B %Y}"
    )
    occasion = _Occasion(f"held-back/{at:%Y-%m-%d}", held_back.enquiry_id, letterhead)
    return _draft(occasion, letterhead.operators, "", content, party="operator", budgets=())


def notification_id(event_id: str, address: str, template: str) -> str:
    """32 hexadecimal characters that are the same whenever event, recipient and template are the same."""
    return sha256("\x1f".join((event_id, address.lower(), template)).encode("utf-8", "replace")).hexdigest()[
        :32
    ]


def _at(partner: Partner) -> Person:
    return Person(name=partner.name[:200], address=partner.address)


def _is_operators(letterhead: Letterhead, address: str) -> bool:
    return address.lower() == letterhead.operators.address.lower()


def _to_operators(
    occasion: _Occasion,
    reference: str,
    content: Content,
    *,
    because_of: Person | None,
    about: str = "",
) -> Iterator[Draft]:
    operators = occasion.letterhead.operators
    if because_of is not None and _is_operators(occasion.letterhead, because_of.address):
        return
    budgets = [mails_because_of(because_of.address)] if because_of else []
    budgets += [mails_about(about)] if about else []
    yield _draft(occasion, operators, reference, content, party="operator", budgets=tuple(budgets))


def _draft(
    occasion: _Occasion,
    recipient: Person,
    reference: str,
    content: Content,
    *,
    party: Party,
    budgets: tuple[str, ...],
    in_reply_to: str = "",
) -> Draft:
    identity = notification_id(occasion.cause, recipient.address, content.template)
    replies, domain = occasion.letterhead.replies, occasion.letterhead.domain
    # What is about no enquiry has none to be answered to.
    message_id, reply_to = f"<n.{identity}@{domain}>", ""
    if reference:
        message_id = replies.message_id(identity, reference, party, recipient.address, domain)
        reply_to = replies.address(reference, party, recipient.address, domain)
    return Draft(
        id=identity,
        template_version=TEMPLATE_VERSIONS[content.template],
        recipient=recipient,
        reference=reference,
        enquiry_id=occasion.enquiry_id,
        content=content,
        message_id=message_id,
        in_reply_to=in_reply_to,
        party=party,
        reply_to=reply_to,
        budgets=budgets,
    )
