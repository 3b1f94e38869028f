"""The fleet's logs: one line an event on stderr, for people or as JSON (FLEET_LOG), of our code and of all libraries.

Each line says in which request and for whom it was written (`fleet.access.caller`), and of which mission and sortie
(`about`). Secrets are taken out here, at the one place that every line passes. A text from outside cannot look like a line
of its own: in JSON it is a string, and for people its control characters are made visible.
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
_OTHERS = ("django", "django.server", "uvicorn")  # these would speak by handlers of their own

_LONG = ("event", "exception")
_MOST = 20_000  # characters of each of these
Named = Callable[[], Mapping[str, str | int]]
about: ContextVar[Named | None] = ContextVar("fleet_log_about", default=None)
"""What the work here is about, `{"mission": …, "sortie": …}`: asked only when there is something to log."""


class Stderr(logging.StreamHandler[TextIO]):
    """What is stderr when the line is written, as logging's own last resort has it; after `speak`, what it was then.

    Of the class, and not of the handler: Celery sets Django up once more, which makes a new one.
    """

    kept: ClassVar[TextIO | None] = None

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    def emit(self, record: logging.LogRecord) -> None:
        if self.kept is not None or record.levelno >= logging.WARNING:
            super().emit(record)

    @property
    def stream(self) -> TextIO:
        return self.kept or sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:
        raise AttributeError("It is stderr.")


def configuration(*, style: str) -> dict[str, Any]:
    """For `logging.config.dictConfig`. Warnings and worse are written; a process that runs for long says more (`speak`)."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"fleet": {"()": "fleet.observability.logs.formatter", "style": style}},
        "handlers": {"stderr": {"class": "fleet.observability.logs.Stderr", "formatter": "fleet"}},
        "root": {"handlers": ["stderr"], "level": "INFO"},
        "loggers": {name: {"handlers": [], "propagate": True} for name in _OTHERS}
        | {"uvicorn.access": {"handlers": [], "level": "WARNING"}},  # it would write queries down, tickets and all
    }


def speak() -> None:
    """From now on this process says what it does, and not only what is wrong, and says it to what is stderr now: Celery will
    put a logger in its place, for whatever is printed."""
    Stderr.kept = sys.stderr


def formatter(*, style: str) -> logging.Formatter:
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _surroundings,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _time,
        structlog.processors.format_exc_info,
    ]
    last: Processor = structlog.processors.JSONRenderer(ensure_ascii=False, default=str) if style == "json" else _plain
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[remove, _redact, last])


def _surroundings(logger: Any, method: str, event: EventDict) -> EventDict:
    acting = caller.current()
    if not acting.request:  # Django logs a bad answer when the request is over, and says which it was
        acting = getattr(getattr(event.get("_record"), "request", None), "fleet_caller", acting)
    if acting.request:
        event["request"], event["by"], event["address"] = acting.request, acting.name, acting.address
    if (named := about.get()) is not None:
        event.update(named())
    return event


def _time(logger: Any, method: str, event: EventDict) -> EventDict:
    record: logging.LogRecord = event["_record"]
    event["at"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    return event


def _redact(logger: Any, method: str, event: EventDict) -> EventDict:
    """By name, by shape and by text, as for the audit trail; a traceback may be longer than an entry there."""
    clean: EventDict = redaction.clean({name: value for name, value in event.items() if name not in _LONG})
    return {**{name: redaction.text(str(event[name]), most=_MOST) for name in _LONG if name in event}, **clean}


def _plain(logger: Any, method: str, event: EventDict) -> str:
    """`2026-01-31 12:00:00,000 WARNING fleet.node: what happened [request=req_… by=user:ann]`"""
    at = datetime.fromisoformat(event.pop("at")).astimezone().strftime("%Y-%m-%d %H:%M:%S,%f")[:-3]
    head = f"{at} {event.pop('level').upper()} {event.pop('logger')}: "
    text, trace = event.pop("event"), event.pop("exception", "")
    rest = " ".join(f"{name}={lines.one(value)}" for name, value in event.items())
    told = head + _inert(str(text)) + (f" [{rest}]" if rest else "")
    return f"{told}\n{_inert(trace)}" if trace else told


def _inert(text: str) -> str:
    """Further lines are indented, so that nothing in them can be taken for the beginning of another entry."""
    return lines.printed(text).replace("\n", "\n  ")
