"""Describes one service that the supervisor runs or watches: its command, its probe, its limits and its restarts."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fleet import errors

# Environment variables that only some processes get: the secrets, or the names of the files that contain them.
JWT_KEY = frozenset({"FLEET_JWT_KEY", "FLEET_JWT_KEY_FILE"})
OWNER = frozenset(
    {"DATABASE_OWNER_URL", "DATABASE_OWNER_URL_FILE", "POSTGRES_OWNER_PASSWORD", "POSTGRES_OWNER_PASSWORD_FILE"}
)
PRIVILEGED = JWT_KEY | OWNER
Identity = Literal["same", "namespace", "nobody"]  # see launch.py


class Overloaded(errors.Unavailable):
    """A probe found that the server runs, but has no free connection. A restart would only end those that work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How to start a process. Put secrets into `env` or files, never into `argv`, which every user can read."""

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict, repr=False)  # added to the supervisor's own
    privileged: frozenset[str] = frozenset()  # those variables of PRIVILEGED that this process gets
    identity: Identity = "same"
    inherited: tuple[int, ...] = ()  # descriptors that the process gets, such as a listening socket

    def environment(self, own: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of the process, derived from the supervisor's `own`."""
        withheld = PRIVILEGED - self.privileged
        return {**{name: value for name, value in own.items() if name not in withheld}, **self.env}


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertLimits:
    """The normal ranges; the supervisor records an event when a value exceeds its limit. None means no limit."""

    response_s: float | None = None
    memory_bytes: int | None = None
    restarts: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How often, and after what pauses, a failed service is restarted."""

    first_s: float = 0.2  # the pause before the first restart; it doubles with each further one
    max_pause_s: float = 10
    attempts: int = 6  # restarts in a row, after which the service has failed
    reset_s: float = 60  # the count of failures is reset after the service has been healthy for this long

    def pause(self, failures: int) -> float | None:
        """Return the seconds to wait after the nth failure in a row, or None after too many failures."""
        return None if failures > self.attempts else min(self.max_pause_s, self.first_s * 2 ** (failures - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A process to keep running; without a command, an external server to watch; with `once`, a step to run.

    `command` is called before each start, prepares what the process needs, and may raise FleetError. `probe` returns if
    the service answers and raises FleetError if not; without a probe, a running process counts as healthy. A container
    is not a descendant of the process that runs it: `main_pid` finds its process on this host, to measure its memory,
    and `clean_up` removes it once the process that ran it has ended for any reason.
    """

    name: str
    command: Callable[[], Command] | None
    probe: Callable[[], Awaitable[None]] | None
    needs: tuple[str, ...] = ()  # services that must be healthy before this one starts
    once: bool = False  # a step: done, and ready from then on, once it has ended with exit code 0
    vital: bool = True  # the fleet does not start without it
    stop_signal: signal.Signals = signal.SIGTERM
    grace_s: float = 10  # between the stop signal and SIGKILL
    ready_s: float = 60  # how long the first successful probe may take after a start
    silent_s: float = 60  # a process that answers no probe for this long is restarted
    probe_every_s: float = 5
    backoff: Backoff = Backoff()
    limits: AlertLimits = AlertLimits()
    main_pid: Callable[[], int | None] | None = None
    clean_up: Callable[[], None] | None = None
