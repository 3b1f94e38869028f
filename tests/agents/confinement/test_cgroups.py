"""Work that runs in a cgroup of its own: the kernel counts and ends all of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agents.confinement import cgroups
from agents.confinement.attempt_limits import Limits, StopReason
from agents.drivers import reaper
from agents.shim import tree
from tests.support.paths import CHECKOUT
from tests.support.waiting import until
from tests.support.work.cgroups import needs_cgroup
from tests.support.work.driver_runs import FLEET, DriverRun, brief, surviving_processes

MB = 1_000_000
UNMARKED = (
    "(env -i setsid sh -c 'echo $$ > {pid}; exec sleep 600' &);"  # shares no parent, session or marker with the work
)
HOLD = "memory = b'x' * 200_000_000; import time; time.sleep(60)"


@pytest.fixture
def delegated(tmp_path: Path) -> Path:
    """A folder with the files of a cgroup that this user can write."""
    for name in ("cgroup.procs", "cgroup.subtree_control", "cgroup.type", "cgroup.kill"):
        (tmp_path / name).touch()
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    return tmp_path


def groups(fleet: str = FLEET) -> list[Path]:
    return sorted(cgroups.find()[0].glob(f"{fleet}-*"))


def test_a_cgroup_that_this_user_may_write_is_used(delegated: Path) -> None:
    assert cgroups.obstacle(delegated, systemd=False) == ""


def test_systemds_own_cgroups_are_left_alone(delegated: Path) -> None:
    if delegated.stat().st_uid != delegated.parent.stat().st_uid:
        pytest.skip("the parent folder belongs to another user")
    assert cgroups.obstacle(delegated, systemd=True) == f"not delegated (systemd manages {delegated})"
    try:
        os.setxattr(delegated, "user.delegate", b"1")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    assert cgroups.obstacle(delegated, systemd=True) == ""


@pytest.mark.parametrize(
    ("name", "why"), [("cgroup.type", "is the root of all cgroups"), ("cgroup.kill", "older than Linux 5.14")]
)
def test_a_root_and_an_old_kernel_are_not_used(delegated: Path, name: str, why: str) -> None:
    (delegated / name).unlink()
    assert why in cgroups.obstacle(delegated, systemd=False)


def test_both_controllers_are_required(delegated: Path) -> None:
    (delegated / "cgroup.controllers").write_text("cpu memory\n")
    assert "the controllers memory and pids are not available" in cgroups.obstacle(delegated, systemd=False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everything")
def test_a_cgroup_of_another_user_is_not_used(delegated: Path) -> None:
    (delegated / "cgroup.procs").chmod(0o444)
    assert "no write access" in cgroups.obstacle(delegated, systemd=False)


@needs_cgroup
@pytest.mark.parametrize("confined", [True, False])
def test_work_that_exceeds_its_memory_is_killed_with_the_reason(tmp_path: Path, confined: bool) -> None:
    limits = Limits(timeout_s=60, grace_s=2, memory_bytes=60 * MB)
    # Also its children, whatever their session and their parent.
    shell = f'setsid sleep 600 & "{sys.executable}" -c "{HOLD}"; sleep 600'
    attempt_brief = brief(tmp_path, shell=shell, limits=limits, confined=confined)
    evidence = DriverRun("command", attempt_brief).end()
    assert (evidence.finished, evidence.ok, evidence.stopped) == (False, False, StopReason.MEMORY)
    assert evidence.error.startswith("It was stopped: it used 6")
    assert "of memory; its limit is 60 MB. Use less memory" in evidence.error
    assert evidence.cpu_s
    assert not surviving_processes(attempt_brief)
    assert not groups()


@needs_cgroup
def test_files_that_the_kernel_caches_are_no_reason_to_kill(tmp_path: Path) -> None:
    if subprocess.check_output(["stat", "-f", "-c", "%T", tmp_path], text=True).strip() in ("tmpfs", "overlayfs"):
        pytest.skip("temporary files may be in memory, which is not cache")
    shell = "head -c 150000000 /dev/zero > large; cat large large > /dev/null"
    evidence = DriverRun(
        "command", brief(tmp_path, shell=shell, limits=Limits(timeout_s=60, memory_bytes=40 * MB))
    ).end()
    assert evidence.ok, evidence


@needs_cgroup
def test_work_has_no_more_processes_than_its_limit(tmp_path: Path) -> None:
    code = """
import json, os
count = 1
try:
    for _ in range(100):
        if os.fork() == 0: os.execlp("sleep", "sleep", "60")
        count += 1
except BlockingIOError:
    pass
json.dump(count, open(os.environ["FLEET_RESULT"], "w"))
"""
    attempt_brief = brief(tmp_path, argv=("python3", "-c", code), limits=Limits(timeout_s=60, grace_s=2, processes=20))
    assert DriverRun("command", attempt_brief).end().result == 20


@needs_cgroup
def test_work_that_hides_from_its_killed_shim_is_ended(tmp_path: Path) -> None:
    """Without the sandbox, in which the kernel ends everything with the shim."""
    shell = f"{UNMARKED.format(pid=tmp_path / 'pid')} sleep 600"
    run = DriverRun("command", brief(tmp_path, shell=shell, confined=False))
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    pid = int((tmp_path / "pid").read_text())
    os.kill(run.reporter.pid, signal.SIGKILL)
    assert not run.end().ok
    assert pid not in tree.process_parents()
    assert not groups()


@needs_cgroup
def test_cgroups_of_a_killed_agent_are_removed(tmp_path: Path) -> None:
    first_brief = brief(tmp_path, fleet="one", shell="sleep 600")
    options = {"fleet": "one", "scratch": str(tmp_path), "confined": False}
    options["shell"] = f"{UNMARKED.format(pid=tmp_path / 'pid')} sleep 600"
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.agents.shim.shim_worker", json.dumps(options)], cwd=CHECKOUT
    )
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    pid = int((tmp_path / "pid").read_text())
    (shim,) = (child for child, parent in tree.process_parents().items() if parent == worker.pid)
    os.kill(worker.pid, signal.SIGSTOP)  # so that it cannot clean up by itself
    os.kill(shim, signal.SIGKILL)
    worker.kill()
    worker.wait()
    run = DriverRun("command", first_brief)
    until(lambda: len(groups("one")) == 2)
    reaper.reap_orphans(fleet="one")
    assert len(groups("one")) == 2, "the cgroup still contains a process without a marker"
    assert reaper.reap_abandoned(fleet="one", agent_pids=[os.getpid()], grace_s=0)
    assert pid not in tree.process_parents()
    assert len(groups("one")) == 1, "its agent is alive"
    run.stop.set(StopReason.CANCELLED)
    run.end()
    assert not groups("one")


@needs_cgroup
def test_a_running_node_reports_that_it_uses_cgroups() -> None:
    assert cgroups.in_use(os.getpid()) == (cgroups.find()[0], "")
