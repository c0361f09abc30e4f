"""Sends the messages to intake as mail servers do: half of them over SMTP, half over LMTP."""

import smtplib
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from deploy.demo.kept import DemoError
from deploy.demo.messages import Letter
from deploy.local.process import LOOPBACK

ATTEMPTS = 5
PAUSE_SECONDS = 1.0
ANSWER_SECONDS = 40.0  # intake says 451 after 30
OUR_NAME = "sender.example"  # smtplib would ask the name server for one


class Sender:
    """One connection, opened at need, and again after it broke: intake knows what it has taken before."""

    def __init__(self, protocol: type[smtplib.SMTP], port: int, to: str) -> None:
        self._protocol = protocol
        self._port = port
        self._to = to
        self._client: smtplib.SMTP | None = None

    def send(self, letter: Letter) -> None:
        """Returns when intake has said yes, that is when the message is durable; raises `DemoError`."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                if self._client is None:
                    self._client = self._protocol(
                        LOOPBACK, self._port, local_hostname=OUR_NAME, timeout=ANSWER_SECONDS
                    )
                self._client.sendmail(letter.sender, [self._to], letter.content)
                return
            except (OSError, smtplib.SMTPException) as error:
                self.close()
                final = isinstance(error, smtplib.SMTPResponseException) and error.smtp_code >= 500
                if final or attempt == ATTEMPTS:
                    raise DemoError(
                        f"Intake did not take {letter.message_id} over {self._protocol.__name__}: {error}"
                    ) from None
                time.sleep(PAUSE_SECONDS)

    def close(self) -> None:
        if self._client is not None:
            with suppress(OSError, smtplib.SMTPException):
                self._client.quit()
            self._client.close()
            self._client = None


def send_all(
    letters: Sequence[Letter],
    missing: frozenset[str],
    to: str,
    *,
    smtp_port: int,
    lmtp_port: int,
    go_on: Callable[[], bool],
) -> None:
    """Send those whose Message-ID is `missing`, as long as `go_on`. Raises `DemoError`."""
    senders = (Sender(smtplib.SMTP, smtp_port, to), Sender(smtplib.LMTP, lmtp_port, to))
    try:
        for number, letter in enumerate(letters):
            if not go_on():
                return
            if letter.message_id in missing:
                senders[number % 2].send(letter)
    finally:
        for sender in senders:
            sender.close()
