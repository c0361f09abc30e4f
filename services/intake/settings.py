"""Intake's settings: INTAKE_..."""

import ssl
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from services.intake.api import ApiOptions
from services.intake.imap import MailboxOptions
from services.intake.mail import Ours
from services.intake.smtp import LOOPBACK, DoorOptions, ListenerOptions, Networks, Protocol
from services.intake.threads import Trust
from shared.contracts.replies import REPLY_MAILBOX, Replies
from shared.settings import ServiceSettings


class IntakeSettings(ServiceSettings):
    """Intake: accepts enquiries by SMTP, LMTP, IMAP and HTTP."""

    model_config = SettingsConfigDict(env_prefix="INTAKE_")

    recipients: frozenset[str] = Field(
        min_length=1,
        description='JSON list of addresses or domains mail is accepted for: ["help@example.org"]',
    )
    own_message_id_domains: frozenset[str] = Field(
        default=frozenset(),
        description="JSON list of domains only our own automatic mail has in its Message-IDs; never answered",
    )
    reply_keys: tuple[SecretStr, ...] = Field(
        min_length=1,
        description='JSON list of the secrets reply addresses are signed with, as notifications has them: ["…"]; '
        "the first signs, all are believed",
    )
    authserv_id: str = Field(
        default="",
        description="our mail server's id in Authentication-Results; where set, From must pass to join an enquiry",
    )
    hostname: str = Field(default="localhost", description="what the listeners call themselves")
    smtp_host: str = "127.0.0.1"
    smtp_port: int | None = Field(default=None, ge=0, le=65535, description="no SMTP listener if not set")
    lmtp_port: int | None = Field(default=None, ge=0, le=65535, description="no LMTP listener if not set")
    size_limit: int = Field(default=25 * 1024 * 1024, ge=1024, description="bytes of one message")
    max_connections: int = Field(default=200, ge=1, description="to each listener")
    max_client_connections: int = Field(default=20, ge=1, description="of one client to each listener")
    client_rate: int = Field(default=120, ge=1, description="messages a minute from one client, then 450")
    sender_rate: int = Field(
        default=60, ge=1, description="messages a minute with one envelope sender, then 450"
    )
    trusted_peers: Networks = Field(
        default=LOOPBACK,
        description='JSON list of networks these three do not bind, such as your gateway\'s: ["10.0.0.5/32"]',
    )
    allowed_peers: Networks = Field(
        default=frozenset(), description="JSON list of networks mail is taken from; empty: from everywhere"
    )
    proxies: Networks = Field(
        default=frozenset(), description="JSON list of networks that begin with the PROXY protocol (v1 or v2)"
    )
    accept_seconds: float = Field(
        default=30.0, gt=0, description="for storing one message; then 451, and its sender tries again later"
    )
    tls_certificate: Path | None = Field(default=None, description="PEM chain; turns STARTTLS on")
    tls_key: Path | None = None
    require_tls: bool = False
    imap_url: str = Field(
        default="",
        pattern="^($|imaps?://[^@/]+@[^/]+)",
        description="a mailbox to watch: imaps://user@host:993/INBOX",
    )
    imap_password: SecretStr | None = None
    imap_password_file: Path | None = Field(
        default=None, description="read at the start, instead of the other"
    )
    imap_move_to: str = Field(default="", description="folder for what is accepted; else it is marked only")
    imap_poll: float = Field(
        default=60.0, gt=0, le=1500, description="seconds between looks; IDLE sees sooner"
    )
    open_to_all: bool = Field(default=False, description="let HTTP clients in without an API key")

    def trust(self) -> Trust:
        keys = [key.get_secret_value() for key in self.reply_keys]
        return Trust(Replies(keys), authenticates=bool(self.authserv_id))

    def _every_recipient(self) -> frozenset[str]:
        """Answers come to a mailbox of their own, in each domain we have an address in."""
        domains = {each.rpartition("@")[2] for each in self.recipients if "@" in each}
        return self.recipients | {f"{REPLY_MAILBOX}@{domain}" for domain in domains}

    def ours(self) -> Ours:
        addresses = frozenset(recipient.lower() for recipient in self.recipients if "@" in recipient)
        return Ours(
            addresses=addresses,
            message_id_domains=self.own_message_id_domains,
            authserv_id=self.authserv_id,
        )

    def mailbox(self) -> MailboxOptions | None:
        if not self.imap_url:
            return None
        password = self.imap_password or SecretStr("")
        if self.imap_password_file is not None:
            password = SecretStr(self.imap_password_file.read_text().strip())
        return MailboxOptions(
            url=self.imap_url,
            password=password,
            move_to=self.imap_move_to,
            ours=self.ours(),
            size_limit=self.size_limit,
            poll=self.imap_poll,
            accept_timeout=self.accept_seconds,
        )

    def listener(self, protocol: Protocol) -> ListenerOptions:
        tls = None
        if self.tls_certificate is not None:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(self.tls_certificate, self.tls_key)
        return ListenerOptions(
            recipients=self._every_recipient(),
            hostname=self.hostname,
            protocol=protocol,
            ours=self.ours(),
            size_limit=self.size_limit,
            door=DoorOptions(
                allowed=self.allowed_peers,
                trusted=self.trusted_peers,
                proxies=self.proxies,
                connections=self.max_connections,
                client_connections=self.max_client_connections,
                client_rate=self.client_rate,
                sender_rate=self.sender_rate,
            ),
            accept_timeout=self.accept_seconds,
            tls=tls,
            require_tls=self.require_tls,
        )

    def api(self) -> ApiOptions:
        return ApiOptions(open_to_all=self.open_to_all, ours=self.ours(), size_limit=self.size_limit)
