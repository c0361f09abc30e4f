"""What every service is told by its environment. A service's variables begin with its name: `TRIAGE_...`."""

import sys
from typing import Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings


class ServiceSettings(BaseSettings):
    """The settings common to all services; a service's own class adds its prefix and its own."""

    rabbitmq_url: SecretStr = Field(description="amqp(s)://user:password@host:port/vhost")
    mongodb_url: SecretStr = Field(description="mongodb://user:password@host:port/database")
    operator_token: SecretStr = Field(
        description="bearer token for operators' routes: stories, failed messages"
    )
    http_host: str = "127.0.0.1"
    http_port: int = Field(default=8000, ge=0, le=65535, description="0 takes any free port")
    clock_offset: float = Field(
        default=0.0,
        description="seconds this programme's time is ahead of the machine's; negative for the past",
    )
    stop_within: float = Field(default=15.0, gt=0, description="seconds for what is in hand at a stop")
    log_format: Literal["auto", "json", "console"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"


T = TypeVar("T", bound=ServiceSettings)


def variables(kind: type[ServiceSettings]) -> str:
    """Every variable a service reads, one a line: for `--help`."""
    prefix = kind.model_config.get("env_prefix", "")
    lines = []
    for name, field in kind.model_fields.items():
        default = (
            "required" if field.is_required() else f"default {field.get_default(call_default_factory=True)}"
        )
        lines.append(
            f"  {prefix}{name.upper():<28} {field.description or ''} ({default})".replace("  (", " (")
        )
    return "\n".join(lines)


def settings_from_environment(kind: type[T]) -> T:
    """The settings, or the end of the program with one line for each variable that is missing or wrong."""
    if "--help" in sys.argv[1:] or "-h" in sys.argv[1:]:
        print(f"{(kind.__doc__ or '').strip()}\n\nSet by environment variables:\n\n{variables(kind)}")  # noqa: T201
        sys.exit(0)
    try:
        return kind()
    except ValidationError as error:
        prefix = kind.model_config.get("env_prefix", "")
        for problem in error.errors(include_input=False):
            name = prefix + "_".join(str(step) for step in problem["loc"]).upper()
            field = kind.model_fields.get(str(problem["loc"][0])) if problem["loc"] else None
            print(f"{name}: {problem['msg']} ({field.description if field else ''})", file=sys.stderr)  # noqa: T201
        sys.exit(2)
