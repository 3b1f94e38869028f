"""Limits each attempt's workload with a cgroup (v2), if the fleet's own cgroup is delegated to it.

The delegated cgroup must not contain processes itself once its children have controllers. Below it are

- `fleet-processes`: the processes of the fleet, including the shims. The node moves them there when it starts.
- FLEET-PID-START-N: the workload of one attempt, named after its fleet and its agent's pid and start time. The shim
  starts the workload in it, and is not in it: it outlives a workload that the kernel kills, and reports its end.

The kernel then counts all memory of the workload, also files in memory, and kills all of it when it exceeds the limit.
Without a delegated cgroup, rlimits and `Quota` limit the workload. https://docs.kernel.org/admin-guide/cgroup-v2.html
"""

from __future__ import annotations

import itertools
import logging
import os
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from agents.confinement.attempt_limits import Limits
from fleet.host import processes, trusted_programs

log = logging.getLogger("fleet.node")

LEAF = "fleet-processes"
CONTROLLERS = {"memory", "pids"}
ROUNDS = 20  # attempts to move all processes: one that has not been moved yet may fork
KILL_S, POLL_S = 3.0, 0.01

_base: Path | None = None  # where this process creates cgroups; see `use`
_numbers = itertools.count(1)


def find(pid: int | None = None) -> tuple[Path, str]:
    """The cgroup that the fleet of a process (default: this one) would use, and why it cannot; "" if it can."""
    mount = next(
        (line for line in _lines(Path("/proc/self/mountinfo")) if line[line.index("-") + 1] == "cgroup2"), None
    )
    lines = (" ".join(line) for line in _lines(Path(f"/proc/{pid or 'self'}/cgroup")))
    own = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)
    if mount is None or own is None:
        return Path("/"), "it is not mounted"
    if own.startswith("/.."):
        return Path(own), "the cgroup is outside of the cgroup namespace"
    cgroup = Path(mount[4], own.removeprefix(mount[3]).lstrip("/"))
    base = cgroup.parent if cgroup.name == LEAF else cgroup
    return base, obstacle(base, systemd=Path("/run/systemd/system").is_dir())


def obstacle(base: Path, *, systemd: bool) -> str:
    """Why the fleet cannot use this cgroup; "" if it can. `systemd`: whether systemd manages the host's cgroups."""
    if not CONTROLLERS.issubset(_words(base / "cgroup.controllers")):
        return f"the controllers memory and pids are not available in {base}"
    if not (base / "cgroup.type").exists():
        return f"{base} is the root of all cgroups"
    if not (base / "cgroup.kill").exists():
        return "the kernel is older than Linux 5.14"
    if not all(os.access(path, os.W_OK) for path in (base, base / "cgroup.procs", base / "cgroup.subtree_control")):
        return f"not delegated (no write access to {base})"
    # The parent of a cgroup that systemd delegates to another user is not that user's. In a tree of one user, root's or
    # that of `systemd --user`, only some of the cgroups are delegated.
    if systemd and base.parent.stat().st_uid == os.geteuid() and not _has_delegate(base):
        return f"not delegated (systemd manages {base})"
    return ""


def in_use(pid: int) -> tuple[Path, str]:
    """Like `find`, for a running node: also checks that the node uses the cgroup."""
    base, why = find(pid)
    if not why and not CONTROLLERS.issubset(_words(base / "cgroup.subtree_control")):
        why = f"{base} is delegated, but the node could not use it (its log says why)"
    return base, why


def activate() -> None:
    """Use cgroups in this process and in those that it forks, if its cgroup is delegated."""
    base, why = find()
    if not why and prepare(base):
        use(base)


def prepare(base: Path) -> bool:
    """Move all processes in the cgroup to `LEAF` below it, and enable the controllers. Returns whether that worked."""
    try:
        leaf = base / LEAF
        leaf.mkdir(exist_ok=True)
        for _ in range(ROUNDS):
            if not (pids := _words(base / "cgroup.procs") - {"0"}):  # 0: a process that this PID namespace hides
                break
            for pid in pids:
                with suppress(ProcessLookupError):
                    _write(leaf / "cgroup.procs", pid)
        _write(base / "cgroup.subtree_control", "+memory +pids")
    except OSError as error:
        log.warning("cgroups are not used in %s: %s; limits are polled", base, error)
        return False
    return True


def use(base: Path) -> None:
    """Create the cgroups of attempts below `base`, in this process and in those that it forks."""
    global _base
    _base = base


class Group:
    """The cgroup of an attempt's workload; without cgroups it limits nothing. The owner must call `end`.

    `descriptor` is that of its folder, or -1. `unenforced` are the limits that something else must enforce. After
    `end`, `ended` says that no process is left, `cpu_s` is the CPU time of the workload if the kernel counted it, and
    `exceeded_bytes` the most memory that it used if the kernel killed it for that.
    """

    def __init__(self, limits: Limits, *, fleet: str) -> None:
        self.descriptor, self.unenforced, self._path = -1, limits, Path()
        self.ended, self.exceeded_bytes = False, 0
        self.cpu_s: float | None = None
        self._memory_bytes = limits.memory_bytes or 0
        if _base is not None:
            pid = os.getpid()
            path = _base / f"{fleet}-{pid}-{processes.start_time_of(pid)}-{next(_numbers)}"
            try:
                self._create(path, limits)
            except OSError as error:  # for example, too many cgroups
                log.warning("no cgroup could be created: %s; the limits of this attempt are polled", error)
                _remove(path, kill=False)

    def _create(self, path: Path, limits: Limits) -> None:
        path.mkdir()
        if limits.memory_bytes is not None:
            _write(path / "memory.max", str(limits.memory_bytes))
            _write(path / "memory.oom.group", "1")
            with suppress(FileNotFoundError):  # a kernel that does not count swap
                _write(path / "memory.swap.max", "0")
        if limits.processes is not None:
            _write(path / "pids.max", str(limits.processes))
        self.descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._path, self.unenforced = path, replace(limits, memory_bytes=None, processes=None)

    def end(self) -> None:
        """Kill the processes that are left, and remove the cgroup. A second call does nothing."""
        if self.descriptor < 0:
            return
        os.close(self.descriptor)
        self.descriptor = -1
        events = _values(self._path / "memory.events")
        if events.get("oom") and events.get("oom_kill"):  # without `oom`, the host had no memory left
            peak = min(_words(self._path / "memory.peak"), default="0")  # since Linux 5.19
            self.exceeded_bytes = max(int(peak), self._memory_bytes + 1)
        self.cpu_s = _values(self._path / "cpu.stat").get("usage_usec", 0) / 1e6
        self.ended = _remove(self._path, kill=True)


def sweep(*, fleet: str, kill: bool = False) -> None:
    """Remove the cgroups that ended agents of this fleet left behind; those with processes only if `kill` is set."""
    for path in _base.glob(f"{fleet}-*") if _base is not None else ():
        pid, start_time = path.name.split("-")[-3:-1]
        if not processes.is_alive(pid=int(pid), start_time=float(start_time)):
            _remove(path, kill=kill)


def _remove(path: Path, *, kill: bool) -> bool:
    """Remove a cgroup if it has no processes, after killing them if `kill`. Returns whether it is gone."""
    deadline = time.monotonic() + KILL_S
    while True:
        try:
            path.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            if not kill or time.monotonic() > deadline:
                return False
            with suppress(OSError):
                _write(path / "cgroup.kill", "1")
            time.sleep(POLL_S)
            continue
        return True


def _has_delegate(base: Path) -> bool:
    """Whether systemd has delegated a cgroup (Delegate=yes in its unit)."""
    for name in ("user.delegate", "trusted.delegate"):
        with suppress(OSError):  # there is no such attribute, or only root may read it
            return os.getxattr(base, name) == b"1"
    show = ["systemctl", "--user", "show", "--property=Delegate", "--value", base.name]
    with suppress(OSError, subprocess.SubprocessError):  # systemd 252 sets no attribute for an ordinary user
        env = {**os.environ, "PATH": trusted_programs.path_variable()}
        return subprocess.run(show, env=env, capture_output=True, timeout=10, check=True).stdout.strip() == b"yes"
    return False


def _write(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY), "wb", buffering=0) as file:
        file.write(text.encode())


def _lines(path: Path) -> list[list[str]]:
    """The words of each line; none if the file cannot be read."""
    with suppress(OSError):
        return [line.split() for line in path.read_text().splitlines()]
    return []


def _words(path: Path) -> set[str]:
    return {word for line in _lines(path) for word in line}


def _values(path: Path) -> dict[str, int]:
    return {key: int(value) for key, value in _lines(path)}
