"""The pages behind the links in partners' mail: what is offered, and two forms to answer with.

Looking changes nothing, because mail scanners follow links; only posting a form does. Nothing on a page comes from
elsewhere, no script runs, and every word of a stranger's is escaped.
"""

from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from services.triage.desk import Desk
from services.triage.domain import Case, NoSuchCase, Outcome, Refused
from services.triage.links import Links
from services.triage.offers import REASONS, Offer, Reason
from services.triage.register import Register
from shared.operators import answering

FORM_LIMIT = 20_000
TEMPLATES = Path(__file__).parent / "templates"
STYLE = (TEMPLATES / "page.css").read_text()
_ENVIRONMENT = Environment(
    loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
_PAGE, _OFFER = (_ENVIRONMENT.get_template(f"{name}.html.j2") for name in ("page", "offer"))
HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",  # the address of the page is what gives the right to answer
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}
NOT_FOUND = "There is no such offer", ["The link may be incomplete. Copy the whole of it from the email."]


def answer_pages(desk: Desk, register: Register, links: Links) -> APIRouter:
    """`/offers/{token}`: GET shows, POST answers."""
    router = APIRouter(include_in_schema=False)
    programme = desk.programme

    def page(status: int, title: str, lines: list[str]) -> Response:
        words = {"title": title, "lines": lines, "programme": programme.name, "style": STYLE}
        return HTMLResponse(_PAGE.render(words), status, HEADERS)

    async def found(token: str) -> tuple[Case, Offer] | None:
        known = links.read(token)
        if known is None:
            return None
        offer_id, partner = known
        case = await desk.case_of(offer_id)
        await register.look()
        offer = next((one for one in case.offers if one.id == offer_id), None) if case else None
        if case is None or offer is None or register.against(case, partner):
            return None
        return case, offer

    def shown(case: Case, offer: Offer, fault: str = "") -> Response:
        if offer.state != "open" or desk.clock() >= offer.expires_at:
            return page(200, f"Case {case.reference}", ended(case, offer))
        until = programme.local(offer.expires_at)
        needs = [str(need) for need in (case.pilot_theme, *case.areas, case.mentoring) if need]
        words: dict[str, Any] = {
            "title": f"Case {case.reference} is offered to you",
            "programme": programme.name,
            "style": STYLE,
            "fault": fault,
            "partner": programme.partner(offer.partner).name,
            "until": f"{until:%H:%M} on {until:%A} {until.day} {until:%B %Y}",
            "what": f"{case.stream}: {', '.join(needs)}".replace("-", " "),
            "days": f"{offer.days:g}",
            "enquirer": f"{case.enquirer.name} ({case.enquirer.address})".strip(),
            "subject": case.subject,
            "text": case.text,
            "reasons": REASONS,
        }
        return HTMLResponse(_OFFER.render(words), 422 if fault else 200, HEADERS)

    def ended(case: Case, offer: Offer) -> list[str]:
        match offer.state:
            case "accepted":
                return [f"{offer.by} accepted it. Please contact {case.enquirer.address}."]
            case "declined":
                return [f"{offer.by} declined it. There is nothing left to do."]
            case "withdrawn":
                return ["The offer was withdrawn. There is nothing left to do."]
            case _:
                return ["The time for an answer is over, and the case goes to somebody else."]

    @router.get("/offers/{token}")
    async def look(token: str) -> Response:
        async with answering():
            known = await found(token)
        return shown(*known) if known else page(404, *NOT_FOUND)

    @router.post("/offers/{token}")
    async def answer(token: str, request: Request) -> Response:
        async with answering():
            known = await found(token)
            if known is None:
                return page(404, *NOT_FOUND)
            form = await _form(request)
            if form is None:
                return page(413, "That is too long", ["Please answer in fewer words."])
            if fault := _fault(form):
                return shown(*known, fault)
            case, offer = known
            try:
                outcome = await _decided(desk, offer, form)
            except NoSuchCase:
                return page(404, *NOT_FOUND)
        if isinstance(outcome, Refused):
            return page(409, f"Case {case.reference}", [outcome.why])
        # See Other: a reload shows what was decided, and posts nothing again.
        return RedirectResponse(links.url(offer), 303, HEADERS)

    return router


async def _decided(desk: Desk, offer: Offer, form: dict[str, str]) -> Outcome:
    if form["answer"] == "accept":
        days = float(form["days"]) if form.get("days") else None
        return await desk.accept(offer.id, offer.partner, form["by"], days)
    reason = cast(Reason, form["reason"])
    return await desk.decline(offer.id, offer.partner, form["by"], reason, form.get("words", ""))


def _fault(form: dict[str, str]) -> str:
    """What is wrong with an answer, for the person who gave it."""
    if form.get("answer") not in ("accept", "decline"):
        return "Accept the case or decline it."
    if not form.get("by") or len(form["by"]) > 100:
        return "Enter your name."
    if form["answer"] == "decline":
        if form.get("reason") not in REASONS:
            return "Choose why you can not take the case."
        if len(form.get("words", "")) > 2_000:
            return "Say it in no more than 2,000 characters."
    elif days := form.get("days"):
        try:
            fits = 0 < float(days) <= 250
        except ValueError:
            fits = False
        if not fits:
            return "Enter the working days as a number, such as 2.5."
    return ""


async def _form(request: Request) -> dict[str, str] | None:
    """The posted form, or None where it is longer than any person's answer."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_LIMIT:
            return None
    fields = parse_qs(body.decode("utf-8", "replace"))
    return {name: values[-1].strip() for name, values in fields.items()}
