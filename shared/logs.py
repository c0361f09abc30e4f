"""Structured logs: JSON for machines, readable lines on a terminal. Ids, never addresses or bodies."""

import logging
import sys

import structlog

from shared.settings import ServiceSettings


def configure(service: str, settings: ServiceSettings) -> None:
    """Send structlog and the libraries' own logs to standard output, one line an event."""
    readable = settings.log_format == "console" or (settings.log_format == "auto" and sys.stdout.isatty())
    stamps: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: structlog.typing.Processor
    if readable:
        last = structlog.dev.ConsoleRenderer()
    else:
        stamps.append(structlog.processors.dict_tracebacks)
        last = structlog.processors.JSONRenderer()
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    structlog.configure(
        processors=[*stamps, last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
            foreign_pre_chain=stamps,
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
