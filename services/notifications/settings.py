"""Notifications' settings: NOTIFICATIONS_..."""

from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from services.notifications import budget
from services.notifications.domain import Backoff, Letterhead
from services.notifications.smtp import Limits, Server
from services.notifications.windows import windows_in
from shared.contracts.cloudevents import EmailAddress, Person
from shared.contracts.replies import Replies
from shared.settings import ServiceSettings


class NotificationsSettings(ServiceSettings):
    """Notifications: every mail that leaves."""

    model_config = SettingsConfigDict(env_prefix="NOTIFICATIONS_")

    programme_name: str = "Mutuals Support Programme"
    programme: Path | None = Field(
        default=None,
        description="the programme file, for its windows; without it applications are always open",
    )
    sender_address: EmailAddress = Field(description="whom our mail comes from; intake listens there")
    operators_address: EmailAddress = Field(description="where operators read of what is held")

    reply_keys: tuple[SecretStr, ...] = Field(
        min_length=1,
        description='JSON list of the secrets reply addresses are signed with, as intake has them: ["…"]; '
        "the first signs, all are believed",
    )
    acknowledgements_a_day: int = Field(default=20, ge=1, description="to one address, at most")
    mails_because_of_one_a_day: int = Field(
        default=100, ge=1, description="to others, that mail from one address leads to, at most"
    )
    further_mails_a_day: int = Field(
        default=20, ge=1, description="about one enquiry after its first, at most"
    )

    smtp_host: str = Field(description="the mail server that takes our mail")
    smtp_port: int = Field(default=25, ge=1, le=65535)
    smtp_security: Literal["none", "starttls", "tls"] = "none"
    smtp_username: str = ""
    smtp_password: SecretStr = SecretStr("")
    smtp_ca_file: Path | None = None
    smtp_our_name: str = Field(default="localhost", description="what we call ourselves in EHLO")
    connections: int = Field(default=8, ge=1, le=100, description="to the mail server, at most")
    attempt_seconds: float = Field(default=60.0, gt=0, description="for one mail, whatever the server does")
    first_retry_seconds: float = Field(default=5.0, gt=0)
    give_up_after_hours: float = Field(default=72.0, gt=0)

    def letterhead(self) -> Letterhead:
        return Letterhead(
            programme=self.programme_name,
            sender=Person(name=self.programme_name, address=self.sender_address),
            operators=Person(name="Operators", address=self.operators_address),
            windows=windows_in(self.programme),
            replies=Replies([key.get_secret_value() for key in self.reply_keys]),
        )

    def budgets(self) -> budget.Limits:
        return budget.Limits(
            acknowledgements=self.acknowledgements_a_day,
            because_of=self.mails_because_of_one_a_day,
            about=self.further_mails_a_day,
        )

    def server(self) -> Server:
        return Server(
            host=self.smtp_host,
            port=self.smtp_port,
            security=self.smtp_security,
            username=self.smtp_username,
            password=self.smtp_password.get_secret_value(),
            ca_file=self.smtp_ca_file,
            our_name=self.smtp_our_name,
        )

    def limits(self) -> Limits:
        return Limits(connections=self.connections, attempt=self.attempt_seconds)

    def backoff(self) -> Backoff:
        return Backoff(
            first=timedelta(seconds=self.first_retry_seconds),
            give_up_after=timedelta(hours=self.give_up_after_hours),
        )
