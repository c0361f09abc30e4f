"""What every service is told by its environment. A service's variables begin with its name: `TRIAGE_...`."""

from datetime import timedelta
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings


class ServiceSettings(BaseSettings):
    """The settings common to all services; a service's own class adds its prefix and its own."""

    rabbitmq_url: SecretStr = Field(description="amqp(s)://user:password@host:port/vhost")
    mongodb_url: SecretStr = Field(description="mongodb://user:password@host:port/database")
    operator_token: SecretStr = Field(description="bearer token for operators' routes: stories, failed messages")
    http_host: str = "127.0.0.1"
    http_port: int = Field(default=8000, ge=0, le=65535, description="0 takes any free port")
    clock_offset: timedelta = Field(
        default=timedelta(0), description="how far this programme's time is from the machine's, in seconds"
    )
    stop_within: float = Field(default=15.0, gt=0, description="seconds for what is in hand at a stop")
    log_format: Literal["auto", "json", "console"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
