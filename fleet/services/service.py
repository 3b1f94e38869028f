"""What is known about one process that the supervisor keeps."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Identity = Literal["same", "namespace", "nobody"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One way to start a process. Secrets travel in `env` or in files, never in `argv`, which every user can read."""

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict, repr=False)  # added to the supervisor's own
    identity: Identity = "same"  # see launch.py


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is still normal; beyond it the supervisor raises an event. None: no limit."""

    response_s: float | None = None
    memory_bytes: int | None = None
    restarts: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    name: str
    command: Callable[[], Command]  # asked before each start; prepares what the process needs; may raise FleetError
    probe: Callable[[], Awaitable[None]]  # returns when the service answers; raises Unavailable, with why, if not
    needs: tuple[str, ...] = ()  # started only when these are healthy
    once: bool = False  # a step: healthy for ever once it has ended with exit code 0
    stop_signal: signal.Signals = signal.SIGTERM
    grace_s: float = 10  # between the stop signal and SIGKILL
    ready_s: float = 60  # how long a start may take until the first good probe
    limits: Limits = Limits()
