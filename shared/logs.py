"""Structured logs: JSON for machines, readable lines on a terminal. Ids, never addresses or bodies."""

import logging
import re
import sys
from pathlib import Path
from typing import Any

import structlog
from structlog.tracebacks import ExceptionDictTransformer

from shared.settings import ServiceSettings

ADDRESS = re.compile(r"[^\s<>\"'(),;:=@]+@[^\s<>\"'(),;:=@]+")
WORDS = 300


def configure(service: str, settings: ServiceSettings) -> None:
    """Send structlog and the libraries' own logs to standard output, one line an event."""
    readable = settings.log_format == "console" or (settings.log_format == "auto" and sys.stdout.isatty())

    def add_service(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        # Not a context variable: the tasks of servers and libraries do not inherit ours.
        event["service"] = service
        return event

    stamps: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        add_service,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: structlog.typing.Processor
    if readable:
        last = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    else:
        stamps += [
            # Never the local variables, which are on by default: they hold messages, and passwords.
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            _without_quotations,
        ]
        last = structlog.processors.JSONRenderer()
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    structlog.configure(
        processors=[*stamps, last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
            foreign_pre_chain=[*stamps, _cut],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def where(error: BaseException) -> str:
    """The line that raised it, such as `domain.py:87`: what a log may say of an error whose words may quote."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""


def _without_quotations(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """An exception's words, shortened and without addresses: they may quote what could not be handled."""
    traces = event.get("exception")
    for trace in traces if isinstance(traces, list) else []:
        trace["exc_value"] = _plain(str(trace.get("exc_value", "")))
    return event


def _cut(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """What libraries say in words of their own; of a long traceback its end, which says what went wrong."""
    event["event"] = ADDRESS.sub("<address>", str(event.get("event", "")))[-WORDS:]
    return event


def _plain(words: str) -> str:
    return ADDRESS.sub("<address>", words)[:WORDS]
