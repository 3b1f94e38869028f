"""What a driver is given, what it gives back, and how it is told to stop. The contract in words: docs/drivers.md."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Literal, Protocol, TypeAlias, Union

from fleet.observability.redactor import Redactor, is_secret_variable

Json: TypeAlias = Union[None, bool, int, float, str, "list[Json]", "dict[str, Json]"]
Stream: TypeAlias = Literal["stdout", "stderr", "fleet"]  # fleet: what it says of the attempt itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What bounds one attempt. Times in seconds; None: no limit."""

    timeout_s: float | None = None  # wall clock for the whole attempt
    longest_s: float | None = None  # what its agent type allows of that
    silence_s: float | None = None  # longest time without output or progress
    grace_s: float = 5.0  # between SIGTERM and SIGKILL
    linger_s: float = 2.0  # for what still holds the output when the main process has ended
    result_bytes: int = 1_000_000  # the largest result that is accepted
    added_bytes: int = 10_000_000  # the largest list of sorties to add
    memory_bytes: int | None = None  # held by all that the attempt started, together
    disk_bytes: int | None = None  # written to the scratch folder; also the size of any one file, wherever it lies
    tmp_bytes: int = 1_000_000_000  # of /tmp, which is in memory
    output_bytes: int = 100_000_000  # the largest output
    processes: int | None = None  # that the attempt has at once, threads included where the kernel counts them
    open_files: int | None = None  # of each process
    reserve_bytes: int = 0  # that must stay free on the disks it writes to, or it is stopped
    reserve_share: float = 0.1  # if it has written so much of the reserve itself

    @property
    def wall_s(self) -> float | None:
        """The wall clock limit that counts."""
        return min((limit for limit in (self.timeout_s, self.longest_s) if limit is not None), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """All that a driver is told about the attempt."""

    marker: str  # value of FLEET_ATTEMPT in the environment of all that the attempt starts: "srt_…/3"
    scratch: Path  # a private folder of this attempt; exists; removed by the engine afterwards
    try_number: int = 1  # which of its tries this is; attempts that were lost or handed back are not counted
    fleet: str = ""  # value of FLEET_HOME_ID: tells this fleet's processes from those of others on the same host
    api: str = ""  # value of FLEET_API: where the fleet's API is
    token: str = field(default="", repr=False)  # value of FLEET_TOKEN, good there for this attempt; neither without it
    argv: tuple[str, ...] = ()  # command driver: a program and its arguments; or
    shell: str = ""  # command driver: text for /bin/sh -c (written by the plan's author, never by data)
    stdin: str = ""  # command driver: given on standard input (a prompt, say)
    call: str = ""  # python driver: the name of a registered callable, "module:function"
    arguments: Mapping[str, Json] = field(default_factory=dict)  # python and scripted drivers: keyword arguments
    needs: Mapping[str, Json] = field(default_factory=dict)  # upstream results by need name (a list for a matrix)
    need_states: Mapping[str, str] = field(default_factory=dict)  # how each upstream sortie ended, by its key
    inputs: Mapping[str, Json] = field(default_factory=dict)  # the mission's inputs
    env: Mapping[str, str] = field(default_factory=dict)  # what the plan sets
    env_allow: frozenset[str] = frozenset()  # names that may come from the host's environment
    secret_env: frozenset[str] = frozenset()  # names among both whose values nobody is to see
    cwd: Path | None = None  # None: the scratch folder itself
    confined: bool = True  # False: without the sandbox, with all that the fleet's user may do
    writable: tuple[Path, ...] = ()  # folders beside the scratch folder that the work may write to (the mission's)
    readable: tuple[Path, ...] = ()  # paths that it may read beside the system's and the fleet's code
    hidden: tuple[Path, ...] = ()  # paths that it may not see, wherever they lie (the fleet's folder)
    network: bool = True
    outputs: tuple[str, ...] = ()  # files to copy to `outbox` once it has succeeded, by paths below scratch or cwd
    outbox: Path | None = None  # a folder that only the fleet reads; the copies are named 0, 1, …
    limits: Limits = Limits()

    def redactor(self) -> Redactor:
        """A new one, for what the attempt says: it hides the token's secret part, the values of `secret_env`, and those
        of allowed variables whose names look like those of secrets."""
        names = self.secret_env | set(filter(is_secret_variable, self.env_allow))
        found = [source[name] for source in (self.env, os.environ) for name in names if name in source]
        return Redactor([self.token.rpartition(".")[2], *found])


class Reporter(Protocol):
    """Hears of a running attempt. Called in the thread that flies it; what it raises ends the attempt."""

    def output(self, *, stream: Stream, data: bytes) -> None:
        """The next piece of output, at most 64 KiB, cut anywhere (in the middle of a character, say)."""

    def progress(self, *, fraction: float | None, note: str) -> None:
        """How far it is, from 0 to 1 (None: it does not say), and what is being done."""

    def started(self, *, pid: int, start_time: float) -> None:
        """The process that holds the attempt's tree (SIGTERM to it stops everything), and its start in epoch seconds."""


class Needs(Mapping[str, Json]):
    """Upstream results that stay JSON text until one is asked for: there may be thousands, and most work reads files.

    `texts` has the text of each result by need name, or a list of texts for a need that stands for many.
    """

    def __init__(self, texts: Mapping[str, str | Sequence[str]]) -> None:
        self._texts = texts

    @classmethod
    def of(cls, results: Mapping[str, Json]) -> Needs:
        return results if isinstance(results, Needs) else cls({name: json.dumps(one) for name, one in results.items()})

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


class StopReason(StrEnum):
    """Why an attempt was stopped. The engine sets the first three, a driver the others."""

    CANCELLED = "cancelled"
    LEASE_LOST = "lease_lost"
    DRAINED = "drained"
    TIMEOUT = "timeout"
    SILENCE = "silence"
    MEMORY = "memory"
    DISK = "disk"
    PROCESSES = "processes"
    DISK_FULL = "disk_full"


class Stop:
    """Tells an attempt to end: by `set`, or by `lease_end` unless the lease is renewed. Both come from other threads than
    the one that flies.

    It is set at most once; the first reason counts. `lease_end` is on the monotonic clock and the moment by which
    everything of the attempt must be gone (fleet/lease.py).
    """

    __slots__ = ("_descriptor", "_listener", "_lock", "lease_end", "reason")

    def __init__(self, *, lease_end: float = math.inf) -> None:
        self.reason: StopReason | None = None
        self.lease_end = lease_end
        self._listener: Callable[[float], None] | None = None
        self._lock = threading.Lock()
        self._descriptor: int | None = None  # made when first asked for: most attempts in this process need none

    def set(self, reason: StopReason) -> None:
        with self._lock:
            if self.reason is None:
                self.reason = reason
                if self._descriptor is not None:
                    os.eventfd_write(self._descriptor, 1)

    def renew(self, *, lease_end: float) -> None:
        """The lease holds until then."""
        with self._lock:
            self.lease_end = lease_end
            if self._listener is not None:
                self._listener(lease_end)

    def follow(self, listener: Callable[[float], None] | None) -> None:
        """Have the end of the lease passed on, now and at each renewal, or no more. The listener may not wait."""
        with self._lock:
            self._listener = listener
            if listener is not None:
                listener(self.lease_end)

    def fileno(self) -> int:
        """A descriptor that becomes and stays readable once the stop is set, for a selector."""
        with self._lock:
            if self._descriptor is None:
                self._descriptor = os.eventfd(int(self.reason is not None), os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            return self._descriptor

    def __del__(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a driver saw. The verdict on it is the engine's."""

    finished: bool  # the work ended by itself: not stopped, not lost
    ok: bool  # and claims success (exit code 0, returned without raising)
    exit_code: int | None = None
    signal: int | None = None
    result: Json = None
    added: tuple[Json, ...] = ()  # sorties that the work asks to add, as plan mappings with a "name"; unchecked
    permanent: bool = (
        False  # it failed of what the plan or the result is: the next try would end the same, so there is none
    )
    error: str = ""  # one sentence on what went wrong and what to do next; a traceback's last line, say
    stopped: StopReason | None = None
    cpu_s: float | None = None
    max_rss_bytes: int | None = None
    outputs: tuple[
        int, ...
    ] = ()  # for each of the brief's the errno with which its copy failed; 0: it is in the outbox


class Driver(Protocol):
    """Does one attempt for real."""

    name: ClassVar[str]

    def fly(self, *, brief: Brief, reporter: Reporter, stop: Stop) -> Evidence:
        """Block until everything that the attempt started is gone. Raises only by surprise."""
