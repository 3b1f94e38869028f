"""What is known about one thing that the supervisor keeps or watches."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

WITHHELD = frozenset({"FLEET_JWT_KEY", "DATABASE_OWNER_URL"})  # of its environment: only for those entrusted
Identity = Literal["same", "namespace", "nobody"]  # see launch.py


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One way to start a process. Secrets travel in `env` or in files, never in `argv`, which every user can read."""

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict, repr=False)  # added to the supervisor's own
    entrusted: frozenset[str] = frozenset()  # which of WITHHELD it is given
    identity: Identity = "same"

    def environment(self, own: Mapping[str, str]) -> dict[str, str]:
        """What the process sees. `own` is the supervisor's."""
        kept = WITHHELD - self.entrusted
        return {**{name: value for name, value in own.items() if name not in kept}, **self.env}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is still normal; beyond it the supervisor raises an event. None: no limit."""

    response_s: float | None = None
    memory_bytes: int | None = None
    restarts: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How often, and how fast, a service that has failed is started again."""

    first_s: float = 0.2  # the pause before the first new start; each one after that is twice as long
    longest_s: float = 10
    attempts: int = 6  # in a row; then it is given up
    proven_s: float = 60  # a service that was healthy for so long begins to count anew

    def pause(self, failures: int) -> float | None:
        """Seconds to wait after the nth failure in a row; None when it has failed too often."""
        return None if failures > self.attempts else min(self.longest_s, self.first_s * 2 ** (failures - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A process to keep; or, without a command, somebody else's server to watch; or, with `once`, a step to do."""

    name: str
    command: (
        Callable[[], Command] | None
    )  # asked before each start; prepares what the process needs; may raise FleetError
    probe: (
        Callable[[], Awaitable[None]] | None
    )  # returns when it answers, raises FleetError with why when not; None: alive is enough
    needs: tuple[str, ...] = ()  # started only when these are healthy
    once: bool = False  # healthy for ever once it has ended with exit code 0
    vital: bool = True  # a fleet that cannot start this does not start
    stop_signal: signal.Signals = signal.SIGTERM
    grace_s: float = 10  # between the stop signal and SIGKILL
    ready_s: float = 60  # how long a start may take until the first good probe
    silent_s: float = 60  # a process that answers no probe for so long is started anew
    probe_every_s: float = 5
    backoff: Backoff = Backoff()
    limits: Limits = Limits()
