"""Triage's settings: TRIAGE_..."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


class TriageSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="TRIAGE_")

    programme: Path = Field(description="the programme file: windows, partners, rules")
