"""Hands raw messages to a running intake over HTTP, as a pipe or an import does.

With the standard library's client, because a pipe is a process for each message, and it starts in a fifth of the
time of others.
"""

import json
import os
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

URL, KEY_FILE = "MUTUALS_INTAKE_URL", "MUTUALS_INTAKE_KEY_FILE"
ANSWER_SECONDS = 90.0


class NotNow(Exception):
    """Nothing was accepted, and the same may be accepted later. The message says what was in the way."""


class Refused(Exception):
    """This message will never be accepted as it is. The message says why."""


class Gateway:
    """One connection to the intake at `url`, with the API key in `key_file`; both are in the environment where
    they are not given. Raises `NotNow` where there is no key to be had. Not for several threads at once."""

    def __init__(self, url: str | None = None, key_file: Path | None = None) -> None:
        file = key_file or Path(os.environ.get(KEY_FILE, ".local/intake.key"))
        try:
            key = file.read_text().strip()
        except OSError as error:
            raise NotNow(f"no API key: {file}: {error.strerror} (set {KEY_FILE})") from None
        self._url = url or os.environ.get(URL) or "http://127.0.0.1:8000"
        parts = urlsplit(self._url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._path = parts.path.rstrip("/")
        self._connection = kind(parts.hostname or "", parts.port, timeout=ANSWER_SECONDS)
        self._headers = {
            "Authorization": f"Bearer {key}",
            "Content-Type": "message/rfc822",
            "Prefer": "return=representation",
        }

    def close(self) -> None:
        self._connection.close()

    def send(self, raw: bytes, via: Literal["pipe", "import"]) -> dict[str, Any]:
        """The receipt, once the message is durable. Raises `NotNow` and `Refused`."""
        kept = self._connection.sock is not None
        try:
            try:
                status, found = self._ask(raw, via)
            except (OSError, HTTPException):
                if not kept:
                    raise
                # A connection kept for long may have been closed meanwhile. Twice is once to intake.
                status, found = self._ask(raw, via)
        except (OSError, HTTPException, ValueError) as error:
            raise NotNow(f"{self._url} does not answer: {type(error).__name__}") from error
        if status == 202:
            return dict(found)
        said = f"{status} {found.get('title', '') if isinstance(found, dict) else ''}"
        if status in (400, 413, 422):
            raise Refused(said)
        raise NotNow(said)  # a key that is not known is no fault of the message

    def _ask(self, raw: bytes, via: str) -> tuple[int, Any]:
        connection = self._connection
        try:
            try:
                connection.request("POST", f"{self._path}/enquiries?via={via}", raw, self._headers)
            except (BrokenPipeError, ConnectionResetError):
                if connection.sock is None:
                    raise
                # Refused before it was sent to its end; why may still be read.
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except BaseException:
            connection.close()
            raise
