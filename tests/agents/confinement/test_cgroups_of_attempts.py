"""Real cgroups, also on a host that delegates no controllers: attempts start in them, and nothing in them survives."""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from agents.confinement import cgroups
from agents.confinement.attempt_limits import Limits
from fleet import ids
from fleet.host import processes
from tests.support.processes import forked
from tests.support.waiting import until
from tests.support.work.shim_runs import ShimRun

NEW_MOUNTS, NEW_CGROUPS = 0x00020000, 0x02000000  # flags of unshare(2)


@pytest.fixture
def base() -> Iterator[Path]:
    """A new cgroup of this host, removed with its processes afterwards."""
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    mount = next((Path(words[4]) for words in mounts if words[words.index("-") + 1] == "cgroup2"), None)
    if mount is None:
        pytest.skip("cgroup v2 is not mounted")
    path = mount / f"test-{ids.encode(ids.SORTIE, ids.new())}"
    try:
        path.mkdir()
        (path / "cgroup.procs").write_text("")
        (path / "cgroup.kill").stat()  # since Linux 5.14
    except OSError as error:
        with suppress(OSError):
            path.rmdir()
        pytest.skip(f"this host or user cannot use cgroups: {error}")
    yield path
    (path / "cgroup.kill").write_text("1")
    until(lambda: not any((folder / "cgroup.procs").read_text() for folder in [path, *_below(path)]))
    for folder in [*reversed(_below(path)), path]:
        folder.rmdir()


def _below(path: Path) -> list[Path]:
    return sorted(item for item in path.rglob("*") if item.is_dir())


@contextmanager
def sleeper(cgroup: Path) -> Iterator[int]:
    """A process in the cgroup."""
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            (cgroup / "cgroup.procs").write_text(str(process.pid))
            yield process.pid
        finally:
            process.kill()


def using(base: Path, function: Callable[[], Any]) -> Any:
    """Run the function in a process that uses the cgroup, as an agent does."""

    def run() -> Any:
        cgroups.use(base)
        return function()

    return forked.run(run)


def test_a_workload_starts_in_its_cgroup_and_cannot_change_it(base: Path, tmp_path: Path) -> None:
    descriptor = os.open(base, os.O_PATH | os.O_DIRECTORY)
    script = "grep ^0:: /proc/self/cgroup; ls /proc/self/fd"
    status, output = ShimRun("sh", "-c", script, scratch=tmp_path, cgroup=descriptor).end()
    os.close(descriptor)
    path, *descriptors = output.splitlines()
    assert status["code"] == 0
    assert path.endswith(f"/{base.name}")
    assert descriptors == ["0", "1", "2", "3"], "the last one is that of ls"
    assert (base / "cgroup.procs").read_text() == "", "the shim is not in it"


def test_the_end_of_an_attempt_kills_what_hides_from_its_shim(base: Path, tmp_path: Path) -> None:
    def attempt() -> list[Any]:
        group = cgroups.Group(Limits(), fleet="one")
        (path,) = base.glob("one-*")
        hidden = "env -i setsid sh -c 'while :; do :; done' & echo $! > pid; exit 0"
        (path / "cgroup.procs").write_text("0")  # the processes of this one start in it
        subprocess.run(["sh", "-c", hidden], cwd=tmp_path, check=True)
        (base / "cgroup.procs").write_text("0")
        until(lambda: int((path / "cpu.stat").read_text().split()[1]) > 10_000)
        group.end()
        group.end()  # does nothing
        return [group.ended, group.cpu_s, group.exceeded_bytes, path.exists()]

    ended, cpu_s, exceeded_bytes, exists = using(base, attempt)
    assert (ended, exceeded_bytes, exists) == (True, 0, False)
    assert cpu_s > 0.01
    assert processes.start_time_of(int((tmp_path / "pid").read_text())) is None


def test_limits_that_no_controller_can_enforce_are_left_to_polling(
    base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if "memory" in (base / "cgroup.controllers").read_text():
        pytest.skip("this host has the controller")
    limits = Limits(memory_bytes=60_000_000, processes=20)

    def create() -> list[Any]:
        with caplog.at_level(logging.WARNING):
            group = cgroups.Group(limits, fleet="one")
        group.end()
        return [group.descriptor, group.unenforced == limits, group.ended, caplog.text]

    descriptor, polls_all, ended, text = using(base, create)
    assert (descriptor, polls_all, ended) == (-1, True, False)
    assert "no cgroup could be created" in text
    assert not list(base.glob("one-*")), "what had been created is removed"


def test_only_cgroups_of_ended_agents_of_the_same_fleet_are_swept(base: Path) -> None:
    pid = os.getpid()
    with subprocess.Popen(["true"]) as agent:
        ended = f"{agent.pid}-1.0"
    mine = f"{pid}-{processes.start_time_of(pid)}"
    names = {name: base / name for name in (f"one-{ended}-1", f"one-{ended}-2", f"two-{ended}-1", f"one-{mine}-1")}
    for path in names.values():
        path.mkdir()

    def left() -> set[str]:
        return {path.name for path in base.iterdir() if path.is_dir()}

    with sleeper(base / f"one-{ended}-2") as survivor:
        using(base, lambda: cgroups.sweep(fleet="one"))
        assert left() == set(names) - {f"one-{ended}-1"}, "the other one still has a process"
        using(base, lambda: cgroups.sweep(fleet="one", kill=True))
        until(lambda: processes.start_time_of(survivor) is None)
        assert left() == {f"two-{ended}-1", f"one-{mine}-1"}


def test_a_cgroup_that_something_else_uses_is_given_up_after_a_while(base: Path) -> None:
    """A process that cannot be killed, such as one that waits for a disk, looks like a cgroup below that is in use."""

    def attempt() -> bool:
        group = cgroups.Group(Limits(), fleet="one")
        (path,) = base.glob("one-*")
        (path / "below").mkdir()
        group.end()
        return group.ended

    assert using(base, attempt) is False


def test_processes_of_the_fleet_move_out_of_the_way(base: Path) -> None:
    with sleeper(base) as pid:
        prepared = cgroups.prepare(base)
        assert (base / cgroups.LEAF / "cgroup.procs").read_text().split() == [str(pid)]
        assert (base / "cgroup.procs").read_text() == ""
        assert prepared == ({"memory", "pids"} <= set((base / "cgroup.controllers").read_text().split()))


def test_a_cgroup_that_cannot_be_prepared_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cgroup.procs").write_text(f"{os.getpid()}\n")
    assert not cgroups.prepare(tmp_path)  # a folder that is no cgroup has none of its files
    assert f"cgroups are not used in {tmp_path}" in caplog.text


def test_the_cgroup_of_a_node_is_found_from_any_of_its_processes(base: Path) -> None:
    (base / cgroups.LEAF).mkdir()
    with sleeper(base) as own, sleeper(base / cgroups.LEAF) as moved:
        assert cgroups.find(own)[0] == base
        assert cgroups.find(moved)[0] == base


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may create these namespaces")
def test_a_cgroup_outside_of_the_namespace_is_not_used(base: Path) -> None:
    other = base / "other"
    other.mkdir()

    def find() -> str:
        inside = base / "inside"
        inside.mkdir()
        (inside / "cgroup.procs").write_text("0")
        assert ctypes.CDLL(None).unshare(NEW_CGROUPS) == 0
        return cgroups.find(pid)[1]

    with sleeper(other) as pid:
        assert forked.run(find) == "the cgroup is outside of the cgroup namespace"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may create these namespaces")
def test_a_host_without_cgroups_needs_none(base: Path) -> None:
    def find() -> str:
        assert ctypes.CDLL(None).unshare(NEW_MOUNTS) == 0
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["umount", "--lazy", str(base.parent)], check=True)
        cgroups.activate()
        group = cgroups.Group(Limits(processes=5), fleet="one")
        assert (group.descriptor, group.unenforced.processes) == (-1, 5)
        return cgroups.find()[1]

    assert forked.run(find) == "it is not mounted"
