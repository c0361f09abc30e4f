"""Hands raw messages to a running intake over HTTP, as a pipe or an import does."""

import os
from pathlib import Path
from typing import Any, Literal

import httpx

URL, KEY_FILE = "MUTUALS_INTAKE_URL", "MUTUALS_INTAKE_KEY_FILE"
ANSWER_SECONDS = 90.0


class NotNow(Exception):
    """Nothing was accepted, and the same may be accepted later. The message says what was in the way."""


class Refused(Exception):
    """This message will never be accepted as it is. The message says why."""


def connect(url: str | None = None, key_file: Path | None = None) -> httpx.AsyncClient:
    """A client of the intake at `url`, with the API key in `key_file`; both are in the environment where they
    are not given. Raises `NotNow` where there is no key to be had."""
    file = key_file or Path(os.environ.get(KEY_FILE, ".local/intake.key"))
    try:
        key = file.read_text().strip()
    except OSError as error:
        raise NotNow(f"no API key: {file}: {error.strerror} (set {KEY_FILE})") from None
    return httpx.AsyncClient(
        base_url=url or os.environ.get(URL, "http://127.0.0.1:8000"),
        headers={
            "Authorization": f"Bearer {key}",
            "Content-Type": "message/rfc822",
            "Prefer": "return=representation",
        },
        timeout=httpx.Timeout(ANSWER_SECONDS, connect=10.0),
        trust_env=False,
    )


async def send(client: httpx.AsyncClient, raw: bytes, via: Literal["pipe", "import"]) -> dict[str, Any]:
    """The receipt, once the message is durable. Raises `NotNow` and `Refused`."""
    try:
        answer = await client.post("/enquiries", params={"via": via}, content=raw)
        found: Any = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise NotNow(f"{client.base_url} does not answer: {type(error).__name__}") from error
    if answer.status_code == 202:
        return dict(found)
    said = f"{answer.status_code} {found.get('title', '') if isinstance(found, dict) else ''}"
    if answer.status_code in (400, 413, 422):
        raise Refused(said)
    raise NotNow(said)  # a key that is not known is no fault of the message
