"""Logging: one line per event on stderr, as text or as JSON (FLEET_LOG), for our code and all libraries.

Each line names its request and caller (`fleet.caller`), and its mission and sortie (`work_fields`). Secrets are redacted
here, because every line passes through this module. A message cannot forge another log line: in JSON it is a string,
and in text its control characters are made visible and its further lines indented.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, ClassVar, TextIO

import structlog
from structlog.typing import EventDict, Processor

from fleet import caller
from fleet.console import lines
from fleet.observability import redaction

STYLES: tuple[str, ...] = ("plain", "json")
_WITH_HANDLERS = ("django", "django.server", "uvicorn")  # loggers whose own handlers are removed

_LONG = ("event", "exception")  # fields that may be long
_MAX_LENGTH = 20_000  # characters of each of these
Fields = Callable[[], Mapping[str, str | int]]
work_fields: ContextVar[Fields | None] = ContextVar("fleet_log_about", default=None)
"""Returns the fields that identify the current work, `{"mission": …, "sortie": …}`; called when a line is written."""


class Stderr(logging.StreamHandler[TextIO]):
    """Writes to the current sys.stderr, as logging.lastResort does; after `enable_info`, always to the same stream.

    `pinned` is a class attribute, because Celery sets Django up again, which creates another handler.
    """

    pinned: ClassVar[TextIO | None] = None

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    def emit(self, record: logging.LogRecord) -> None:
        if self.pinned is not None or record.levelno >= logging.WARNING:
            super().emit(record)

    @property
    def stream(self) -> TextIO:
        return self.pinned or sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:
        raise AttributeError("The stream of this handler is always stderr.")


def configuration(*, style: str) -> dict[str, Any]:
    """Return the argument of `logging.config.dictConfig`. Only warnings are written until `enable_info` is called."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"fleet": {"()": "fleet.observability.logs.formatter", "style": style}},
        "handlers": {"stderr": {"class": "fleet.observability.logs.Stderr", "formatter": "fleet"}},
        "root": {"handlers": ["stderr"], "level": "INFO"},
        "loggers": {name: {"handlers": [], "propagate": True} for name in _WITH_HANDLERS}
        | {"uvicorn.access": {"handlers": [], "level": "WARNING"}},  # it would log query strings, including tickets
    }


def enable_info() -> None:
    """Log the levels below WARNING, too, to the current sys.stderr. For long-running processes.

    The stream is pinned because Celery later replaces sys.stderr with an object that logs whatever is printed.
    """
    Stderr.pinned = sys.stderr


def formatter(*, style: str) -> logging.Formatter:
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_context,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _add_time,
        structlog.processors.format_exc_info,
    ]
    as_json = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    renderer: Processor = as_json if style == "json" else _render_text
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=processors, processors=[remove, _redact, renderer])


def _add_context(logger: Any, method: str, event: EventDict) -> EventDict:
    """Add the request, the caller and the fields of the current work."""
    current = caller.current()
    if not current.request:  # Django logs an error response after the end of its request, but passes the request on
        current = getattr(getattr(event.get("_record"), "request", None), "fleet_caller", current)
    if current.request:
        event["request"], event["by"], event["address"] = current.request, current.name, current.address
    if (fields := work_fields.get()) is not None:
        event.update(fields())
    return event


def _add_time(logger: Any, method: str, event: EventDict) -> EventDict:
    record: logging.LogRecord = event["_record"]
    event["at"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    return event


def _redact(logger: Any, method: str, event: EventDict) -> EventDict:
    """Redact as for the audit trail; a message and a traceback may be longer than a text there."""
    clean: EventDict = redaction.clean({name: value for name, value in event.items() if name not in _LONG})
    return {
        **{name: redaction.text(str(event[name]), max_length=_MAX_LENGTH) for name in _LONG if name in event},
        **clean,
    }


def _render_text(logger: Any, method: str, event: EventDict) -> str:
    """`2026-01-31 12:00:00,000 WARNING fleet.node: what happened [request=req_… by=user:ann]`"""
    at = datetime.fromisoformat(event.pop("at")).astimezone().strftime("%Y-%m-%d %H:%M:%S,%f")[:-3]
    head = f"{at} {event.pop('level').upper()} {event.pop('logger')}: "
    message, traceback = event.pop("event"), event.pop("exception", "")
    fields = " ".join(f"{name}={lines.one_line(value)}" for name, value in event.items())
    line = head + _indented(str(message)) + (f" [{fields}]" if fields else "")
    return f"{line}\n{_indented(traceback)}" if traceback else line


def _indented(text: str) -> str:
    """Indent all lines but the first, so that none looks like the beginning of another entry."""
    return lines.terminal_safe(text).replace("\n", "\n  ")
