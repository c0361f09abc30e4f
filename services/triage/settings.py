"""Triage's settings: TRIAGE_..."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


class TriageSettings(ServiceSettings):
    """Triage: routes each enquiry to a partner, or holds it."""

    model_config = SettingsConfigDict(env_prefix="TRIAGE_")

    programme: Path = Field(description="the programme file: windows, partners, rules")
    public_url: str = Field(description="where partners reach this service: links in their mail begin so")
    link_keys: list[SecretStr] = Field(
        min_length=1, description="JSON list of keys that sign those links; the first one signs"
    )
    partner_keys: dict[str, SecretStr] = Field(
        default={}, description='JSON: {"slug": "key"}, the bearer keys of the partners for /partner'
    )
