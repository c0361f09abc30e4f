"""Mentoring's settings: MENTORING_..."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


class MentoringSettings(ServiceSettings):
    """Mentoring: books sessions."""

    model_config = SettingsConfigDict(env_prefix="MENTORING_")

    mentors: Path = Field(description="the mentors file: expertise, weekly hours, rules")
