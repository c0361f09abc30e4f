"""Triage's settings: TRIAGE_..."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


class TriageSettings(ServiceSettings):
    """Triage: routes each enquiry to a partner, or holds it."""

    model_config = SettingsConfigDict(env_prefix="TRIAGE_")

    programme: Path = Field(description="the programme file: windows, partners, rules")
