"""Intake over HTTP: a raw message or a web form in, 202 only after it is durable.

Every error is a problem document (RFC 9457). Answers to a repeated request are the same as to the first.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import structlog
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError
from starlette.requests import ClientDisconnect

from services.intake.arrival import Accept, EnquiryForm, arrived_form, arriving_mail, where
from services.intake.domain import Contradicted, Kind, Message, Outcome, Repeated
from services.intake.mail import Ours
from services.intake.told import Told, tell
from shared.store import Unavailable

log = structlog.get_logger()

MESSAGE_TYPES = ("message/rfc822", "message/global")
PROBLEM = "application/problem+json"
KEY = re.compile(r'[!#-\[\]-~]{1,255}|"[ !#-\[\]-~]{1,255}"')
RETURN_ALL = re.compile(r"\breturn=representation\b", re.IGNORECASE)
FORM_LIMIT = 1024 * 1024

RawVia = Literal["http-message", "pipe", "import"]

Find = Callable[[str], Awaitable[Message | None]]
"""The accepted message with this enquiry id."""

Holder = Callable[[str], Awaitable[str | None]]
"""The name of the client that holds this API key."""


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """Without a key nobody is let in, unless `open_to_all` says so. Sizes are in bytes, times in seconds."""

    open_to_all: bool = False
    ours: Ours = Ours()  # noqa: RUF009  (frozen)
    size_limit: int = 25 * 1024 * 1024
    memory_limit: int = 256 * 1024 * 1024
    body_timeout: float = 60.0
    accept_timeout: float = 30.0
    retry_after: int = 5


class Receipt(BaseModel):
    """`outcome` is what became of the message. `enquiry` and `reference` are those of the enquiry it began or
    belongs to; without one, its own id and nothing. `duplicate` says that the message had been accepted before;
    the rest is what was said then. `message` is what was made of it, for a client that asks for it
    (`Prefer: return=representation`, RFC 7240)."""

    model_config = ConfigDict(frozen=True)

    reference: str
    enquiry: str
    duplicate: bool
    outcome: Kind
    message: Told | None = None


class Known(BaseModel):
    """What a client may see of an enquiry it sent."""

    model_config = ConfigDict(frozen=True)

    reference: str
    enquiry: str
    accepted_at: AwareDatetime


class ProblemDetail(BaseModel):
    """One thing wrong with a form; `pointer` is a JSON pointer (RFC 6901) to it."""

    pointer: str
    detail: str


class Problem(BaseModel):
    """RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[ProblemDetail] | None = None


class ProblemError(Exception):
    """Ends a request with a problem document."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        *,
        errors: list[ProblemDetail] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(title)
        self.problem = Problem(status=status, title=title, detail=detail, errors=errors)
        self.headers = headers

    def response(self) -> Response:
        return Response(
            self.problem.model_dump_json(exclude_none=True),
            self.problem.status,
            self.headers,
            media_type=PROBLEM,
        )


class ProblemRoute(APIRoute):
    """A route whose every error is a problem document, whatever the application around it does."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            try:
                response: Response = await handle(request)
            except ProblemError as error:
                return error.response()
            except RequestValidationError as error:
                return _invalid(error.errors(), "The request is not valid").response()
            except HTTPException as error:
                return ProblemError(error.status_code, "Refused", str(error.detail)).response()
            except ClientDisconnect:
                return ProblemError(
                    400, "Cut short", "The request ended early."
                ).response()  # nobody reads it
            except Exception as error:
                log.error("enquiry_request_failed", error=type(error).__name__, where=where(error))
                return ProblemError(
                    500, "Failed", "Nothing was accepted. Send it again: it will not be taken twice."
                ).response()
            return response

        return guarded


def enquiries(accept: Accept, find: Find, holder: Holder, options: ApiOptions) -> APIRouter:
    """The routes under `/enquiries`."""
    bodies = _Bodies(options)
    bearer = HTTPBearer(auto_error=False, description="An API key; an operator makes one")

    async def client_of(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> str:
        """The name of the client."""
        if options.open_to_all and credentials is None:
            return "anyone"
        if credentials:
            async with _answering(options):
                name = await holder(credentials.credentials)
            if name is not None:
                return name
        raise ProblemError(
            401, "Who are you?", "An API key is needed.", headers={"WWW-Authenticate": "Bearer"}
        )

    router = APIRouter(tags=["enquiries"], route_class=ProblemRoute)

    @router.post(
        "/enquiries",
        status_code=202,
        response_model=Receipt,
        summary="Send an enquiry",
        description=(
            "A raw message (`message/rfc822`) or a web form (`application/json`). It is durable when 202 is "
            "answered. The same message twice is one enquiry: a raw message is known by its Message-ID and "
            "content, a form by its `Idempotency-Key`. Sending again after any other answer or none is safe."
        ),
        responses=_problems(400, 401, 408, 413, 415, 422, 500, 503),
        openapi_extra=_REQUEST,
    )
    async def take_enquiry(
        request: Request,
        client: Annotated[str, Depends(client_of)],
        via: Annotated[RawVia, Query(description="how a raw message came")] = "http-message",
    ) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        key = _idempotency_key(request)
        if kind not in (*MESSAGE_TYPES, "application/json"):
            raise ProblemError(
                415,
                "Unsupported media type",
                "Send message/rfc822 or application/json.",
                headers={"Accept-Post": "message/rfc822, application/json"},
            )
        form = kind == "application/json"
        async with bodies.read(request, FORM_LIMIT if form else options.size_limit) as raw:
            if not form:
                arrived = await arriving_mail(raw, via=via, ours=options.ours, peer=_peer(request))
            elif key is not None:
                arrived = arrived_form(
                    _form(raw), raw, client=client, key=key, ours=options.ours, peer=_peer(request)
                )
            else:
                raise ProblemError(
                    400, "Idempotency-Key is missing", "A form needs a key, made anew for each enquiry."
                )
            async with _answering(options):
                outcome = await accept(arrived)
        prefers = request.headers.get("prefer", "")
        return _receipt(outcome, tell(outcome, arrived) if RETURN_ALL.search(prefers) else None)

    @router.get(
        "/enquiries/{enquiry}",
        response_model=Known,
        summary="Whether an enquiry was accepted",
        responses=_problems(401, 404, 422, 503),
        dependencies=[Depends(client_of)],
    )
    async def show_enquiry(enquiry: Annotated[str, Path(pattern="^[0-9a-f]{32}$")]) -> Known:
        async with _answering(options):
            message = await find(enquiry)
        if message is None:
            raise ProblemError(404, "Not found", "No such enquiry was accepted here.")
        return Known(reference=message.reference, enquiry=message.id, accepted_at=message.accepted_at)

    return router


@asynccontextmanager
async def _answering(options: ApiOptions) -> AsyncIterator[None]:
    """What is asked of the store is answered in time, or put off."""
    try:
        async with asyncio.timeout(options.accept_timeout):
            yield
    except (Unavailable, TimeoutError) as error:
        log.warning("enquiry_put_off", reason=type(error).__name__)
        raise _put_off(options) from error


def _put_off(options: ApiOptions) -> ProblemError:
    return ProblemError(
        503,
        "Try again later",
        "It could not be stored now, and was not accepted.",
        headers={"Retry-After": str(options.retry_after)},
    )


def _receipt(outcome: Outcome, told: Told | None) -> Response:
    if isinstance(outcome, Contradicted):
        raise ProblemError(
            422, "Idempotency-Key is used already", "Another form was sent with this key. Make a new one."
        )
    state = outcome.state
    receipt = Receipt(
        reference=state.reference,
        enquiry=state.belongs_to,
        duplicate=isinstance(outcome, Repeated),
        outcome=state.outcome,
        message=told,
    )
    body = receipt.model_dump(mode="json", exclude_none=True)
    return JSONResponse(body, 202, {"Location": f"/enquiries/{state.belongs_to}"})


class _Bodies:
    """The bodies of all requests in hand, taken together: never more in memory than the limit."""

    def __init__(self, options: ApiOptions) -> None:
        self._options = options
        self._bytes = 0

    @asynccontextmanager
    async def read(self, request: Request, limit: int) -> AsyncIterator[bytes]:
        """The whole body, for as long as it is needed."""
        too_large = ProblemError(413, "Too large", f"At most {limit} bytes are accepted.")
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            raise too_large
        seconds = self._options.body_timeout
        body = bytearray()
        held = 0
        try:
            async with asyncio.timeout(seconds):
                async for chunk in request.stream():
                    held += len(chunk)
                    self._bytes += len(chunk)
                    if held > limit:
                        raise too_large
                    if self._bytes > self._options.memory_limit:
                        log.warning("enquiry_put_off", reason="too much at once")
                        raise _put_off(self._options)
                    body += chunk
            if not body.strip():
                raise ProblemError(400, "Empty", "The request has no body.")
            yield bytes(body)
        except TimeoutError as error:
            raise ProblemError(
                408, "Too slow", f"The body did not come within {seconds:g} seconds."
            ) from error
        finally:
            self._bytes -= held


def _form(raw: bytes) -> EnquiryForm:
    try:
        return EnquiryForm.model_validate_json(raw)
    except ValidationError as error:
        raise _invalid(error.errors(), "The form is not valid") from None


def _invalid(errors: Any, title: str) -> ProblemError:
    """What is wrong and where, without repeating what was sent."""
    details = [
        ProblemDetail(
            pointer="".join(
                f"/{str(step).replace('~', '~0').replace('/', '~1')[:100]}" for step in error["loc"]
            ),
            detail=error["msg"][:300],
        )
        for error in errors[:50]
    ]
    return ProblemError(422, title, f"{len(errors)} things are wrong with it.", errors=details)


def _idempotency_key(request: Request) -> str | None:
    """The key, a string in quotes (draft-ietf-httpapi-idempotency-key-header) or, as many send it, bare."""
    value = request.headers.get("idempotency-key")
    if value is None:
        return None
    if not KEY.fullmatch(value):
        raise ProblemError(400, "Idempotency-Key is not valid", "It must be 1 to 255 printable characters.")
    return value.strip('"')


def _peer(request: Request) -> str:
    return request.client.host if request.client else ""


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    schema = _schema(Problem)
    return {
        status: {"description": _MEANINGS[status], "content": {PROBLEM: {"schema": schema}}}
        for status in statuses
    }


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    """The model's schema in one piece: `#/$defs/…` would point to nothing inside an OpenAPI document."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def whole(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return whole(definitions[node["$ref"].rpartition("/")[2]])
            return {key: whole(value) for key, value in node.items()}
        return [whole(each) for each in node] if isinstance(node, list) else node

    found: dict[str, Any] = whole(schema)
    return found


_MEANINGS = {
    400: "The request is empty, or a form has no usable Idempotency-Key",
    401: "No API key, or one that is unknown or revoked",
    404: "No such enquiry was accepted here",
    408: "The body did not come in time",
    413: "The body is too large",
    415: "Neither message/rfc822 nor application/json",
    422: "The form is not valid, or its Idempotency-Key was used for another one",
    500: "A fault here; nothing was accepted",
    503: "It cannot be stored now and was not accepted; try again after Retry-After",
}

_REQUEST: dict[str, Any] = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            "description": "Needed with a form, one for each enquiry; a raw message needs none.",
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _schema(EnquiryForm)},
            "message/rfc822": {"schema": {"type": "string", "format": "binary"}},
        },
    },
}
