"""Runs periodic work of upper layers in the control process, in a separate thread so that it never delays a beat."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from django.db import Error, connection

from fleet import registrations
from fleet.errors import FleetError

log = logging.getLogger("fleet.control")

CHECK_S = 0.5


@dataclass(slots=True)
class _Duty:
    name: str
    run: Callable[[], object]
    every_s: float
    due_at: float = 0.0


_duties: list[_Duty] = []
_at_end: list[Callable[[], object]] = []


def register(
    *, name: str, run: Callable[[], object], every_s: float, at_end: Callable[[], object] | None = None
) -> None:
    """Call `run` every `every_s` seconds, and `at_end` once when the process ends.

    The process waits for `at_end`, so it must be quick.
    """
    _duties.append(_Duty(name, run, every_s))
    if at_end is not None:
        _at_end.append(at_end)


def start(ending: threading.Event) -> threading.Thread:
    """Run the duties until `ending` is set, then the `at_end` functions. The caller joins the returned thread."""
    registrations.load()
    thread = threading.Thread(target=_loop, args=(ending,), name="background")
    thread.start()
    return thread


def _loop(ending: threading.Event) -> None:
    while not ending.wait(CHECK_S):
        for duty in _duties:
            if time.monotonic() >= duty.due_at and not ending.is_set():
                _run(duty.name, duty.run)
                duty.due_at = time.monotonic() + duty.every_s
    for end in _at_end:
        _run("at the end", end)
    connection.close()


def _run(name: str, run: Callable[[], object]) -> None:
    try:
        run()
    except (Error, FleetError, OSError) as error:
        log.warning("%s: %s", name, str(error).strip())
        connection.close()
    except Exception:  # a defect of one duty must not end the others
        log.exception("%s failed", name)
        connection.close()
