"""The driver contract: brief, reporter, stop and evidence. docs/drivers.md describes it in words.

The limits in a brief are defined in `agents/confinement/attempt_limits.py`.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, Protocol, TypeAlias, Union

from agents.confinement.attempt_limits import Limits, StopReason
from agents.confinement.view import View
from fleet.observability.redactor import Redactor, is_secret_variable

Json: TypeAlias = Union[None, bool, int, float, str, "list[Json]", "dict[str, Json]"]
Stream: TypeAlias = Literal["stdout", "stderr", "fleet"]  # fleet: messages of the fleet about the attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptBrief:
    """What a driver needs to execute an attempt."""

    marker: str  # "srt_…/3": FLEET_ATTEMPT in the environment of every process of the attempt
    scratch: Path  # a private folder of this attempt; exists already; the engine removes it afterwards
    try_number: int = 1  # from 1; attempts that were lost or handed back do not count
    fleet: str = ""  # FLEET_HOME_ID: distinguishes this fleet's processes from those of others on the host
    api: str = ""  # FLEET_API: the base URL of the fleet's API
    token: str = field(default="", repr=False)  # FLEET_TOKEN: valid for this attempt; if empty, neither is set
    argv: tuple[str, ...] = ()  # command driver: a program and its arguments; or
    shell: str = ""  # command driver: text for /bin/sh -c (from the plan's author, never built from data)
    stdin: str = ""  # command driver: standard input, such as a prompt
    call: str = ""  # python driver: the name of a registered callable, "module:function"
    arguments: Mapping[str, Json] = field(default_factory=dict)  # python and scripted drivers: keyword arguments
    needs: Mapping[str, Json] = field(default_factory=dict)  # upstream results by need name (a list for a matrix)
    need_states: Mapping[str, str] = field(default_factory=dict)  # how each upstream sortie ended, by its key
    inputs: Mapping[str, Json] = field(default_factory=dict)  # the mission's inputs
    resume: Json = None  # the last value that an earlier attempt saved to resume from
    env: Mapping[str, str] = field(default_factory=dict)  # variables that the plan sets
    env_allow: frozenset[str] = frozenset()  # variables that are copied from the host's environment
    secret_env: frozenset[str] = frozenset()  # names in `env` or `env_allow` whose values are redacted
    cwd: Path | None = None  # None: the scratch folder itself
    confined: bool = True  # False: no sandbox; the workload has all permissions of the fleet's user
    writable: tuple[Path, ...] = ()  # writable folders besides the scratch folder (the mission's folder)
    readable: tuple[Path, ...] = ()  # readable paths besides those of the system and the fleet's code
    hidden: tuple[Path, ...] = ()  # paths that the workload cannot see, wherever they are (the fleet's folder)
    copy: Path | None = None  # the attempt's own copy of a repository: writable, even inside a hidden folder
    shared: tuple[Path, ...] = ()  # readable, even inside a hidden folder: the objects that the copy borrows
    network: bool = True
    outputs: tuple[str, ...] = ()  # paths below scratch or cwd of files to copy to `outbox` after success
    outbox: Path | None = None  # a folder that only the fleet can read; the copies are named 0, 1, …
    limits: Limits = field(default_factory=Limits)

    def redactor(self) -> Redactor:
        """A new redactor for everything that the attempt reports.

        It hides the secret part of the token, the values of `secret_env`, and those of allowed variables whose names
        look like names of secrets.
        """
        names = self.secret_env | set(filter(is_secret_variable, self.env_allow))
        secrets = [source[name] for source in (self.env, os.environ) for name in names if name in source]
        return Redactor([self.token.rpartition(".")[2], *secrets])

    def view(self) -> View:
        """What the workload sees of the host's file system if it is confined."""
        return View(
            scratch=self.scratch,
            writable=self.writable,
            readable=self.readable,
            hidden=self.hidden,
            copy=self.copy,
            shared=self.shared,
            network=self.network,
            tmp_bytes=self.limits.tmp_bytes,
        )


class Reporter(Protocol):
    """Receives output and progress of a running attempt, in the driver's thread. An exception ends the attempt."""

    def output(self, *, stream: Stream, data: bytes) -> None:
        """The next piece of output, at most 64 KiB. It may be cut anywhere, even within a character."""

    def progress(self, *, fraction: float | None, note: str) -> None:
        """How much of the work is done, from 0 to 1 (None: unknown), and what it is doing."""

    def save_resume(self, *, value: Json) -> None:
        """A value from which the next attempt can continue. It replaces the previous one; None: start from scratch."""

    def started(self, *, pid: int) -> None:
        """The root process of the attempt. SIGTERM to it stops everything."""


class Needs(Mapping[str, Json]):
    """Upstream results, each parsed on access: there may be thousands, and most workloads read the files instead.

    `texts` maps each need to the JSON text of its result, or to a list of texts if the need stands for many sorties.
    """

    def __init__(self, texts: Mapping[str, str | Sequence[str]]) -> None:
        self._texts = texts

    @classmethod
    def of(cls, results: Mapping[str, Json]) -> Needs:
        """Wrap upstream results, unless they are wrapped already."""
        if isinstance(results, Needs):
            return results
        return cls({name: json.dumps(result) for name, result in results.items()})

    def __getitem__(self, name: str) -> Json:
        return json.loads("".join(self.pieces(name)))  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    def pieces(self, name: str) -> Iterator[str]:
        """The JSON text of a result, piece by piece."""
        texts = self._texts[name]
        if isinstance(texts, str):
            yield texts
            return
        for number, text in enumerate(texts):
            yield ", " if number else "["
            yield text
        yield "]" if texts else "[]"


class Stop:
    """The stop signal of an attempt, which ends when `set` is called, or at `lease_end` unless the lease is renewed.

    `set` and `renew` may be called in any thread. Only the first reason counts. `lease_end` is the time on the
    monotonic clock by which every process of the attempt must be gone (fleet/lease.py).
    """

    __slots__ = ("_descriptor", "_listener", "_lock", "lease_end", "reason")

    def __init__(self, *, lease_end: float = math.inf) -> None:
        self.reason: StopReason | None = None
        self.lease_end = lease_end
        self._listener: Callable[[float], None] | None = None
        self._lock = threading.Lock()
        self._descriptor: int | None = None  # created on first use: most attempts in this process need none

    def set(self, reason: StopReason) -> None:
        """Stop the attempt. Later calls have no effect."""
        with self._lock:
            if self.reason is None:
                self.reason = reason
                if self._descriptor is not None:
                    os.eventfd_write(self._descriptor, 1)

    def renew(self, *, lease_end: float) -> None:
        """Move the end of the lease."""
        with self._lock:
            self.lease_end = lease_end
            if self._listener is not None:
                self._listener(lease_end)

    def set_listener(self, listener: Callable[[float], None] | None) -> None:
        """Call `listener` with the end of the lease, now and at each renewal. None removes it. It must not block."""
        with self._lock:
            self._listener = listener
            if listener is not None:
                listener(self.lease_end)

    def fileno(self) -> int:
        """A descriptor for a selector, readable once the stop is set."""
        with self._lock:
            if self._descriptor is None:
                self._descriptor = os.eventfd(int(self.reason is not None), os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            return self._descriptor

    def __del__(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a driver observed. The engine judges it."""

    finished: bool  # the workload ended on its own: it was neither stopped nor lost
    ok: bool  # and reports success (exit code 0, or returned without raising)
    exit_code: int | None = None
    signal: int | None = None
    result: Json = None
    added: tuple[Json, ...] = ()  # sorties to add, as plan mappings with a "name"; not validated
    permanent: bool = False  # caused by the plan or the result: the next try would fail too, so there is none
    error: str = ""  # one sentence on what went wrong and what to do next, such as the last line of a traceback
    stopped: StopReason | None = None
    cpu_s: float | None = None
    max_rss_bytes: int | None = None
    outputs: tuple[int, ...] = ()  # per output of the brief, the errno of its copy; 0: it is in the outbox


class Driver(Protocol):
    """Executes attempts."""

    name: ClassVar[str]

    def run(self, *, brief: AttemptBrief, reporter: Reporter, stop: Stop) -> Evidence:
        """Execute an attempt. Blocks until every process of it is gone. Raises only for bugs in the driver."""
