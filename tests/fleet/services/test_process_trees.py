"""The supervisor ends every process that its services left, wakes halted ones, and touches no others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fleet.host import processes
from fleet.services.supervision import process_trees
from tests.support.processes import forked
from tests.support.waiting import until

# Starts two processes with sessions of their own, and ends: one cleans up at SIGTERM, the other one ignores it.
LEAVE_TWO = """
setsid sh -c 'trap "touch cleaned_up; exit" TERM; echo $$ > mild; while :; do sleep 0.1; done' &
setsid sh -c 'trap "" TERM; echo $$ > stubborn; while :; do sleep 0.1; done' &
while [ ! -s mild ] || [ ! -s stubborn ]; do sleep 0.02; done
"""


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
        yield process
        process.kill()


def is_halted(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


def test_processes_that_lost_their_parents_are_ended_even_if_they_are_halted_or_resist(tmp_path: Path) -> None:
    def adopt_and_end() -> list[str]:
        processes.become_subreaper()
        subprocess.run(["sh", "-c", LEAVE_TWO], cwd=tmp_path, check=True)
        os.kill(int((tmp_path / "mild").read_text()), signal.SIGSTOP)
        names = process_trees.end_descendants(grace_s=1.5)
        assert psutil.Process().children(recursive=True) == []
        return names

    names = forked.run(adopt_and_end)
    pids = {name: int((tmp_path / name).read_text()) for name in ("mild", "stubborn")}
    assert {f"sh ({pid})" for pid in pids.values()} <= set(names)
    assert (tmp_path / "cleaned_up").exists()
    assert not any(psutil.pid_exists(pid) for pid in pids.values())


def test_without_adoption_no_other_process_of_the_user_is_ended(sleeper: subprocess.Popen[bytes]) -> None:
    def end() -> list[str]:
        child = subprocess.Popen(["sleep", "600"])
        try:
            assert not processes.is_subreaper()
            names = process_trees.end_descendants(grace_s=0)
            assert child.poll() is None
            return names
        finally:
            child.kill()
            child.wait()

    assert forked.run(end) == []
    assert sleeper.poll() is None


def test_an_adopted_process_that_has_ended_is_reaped() -> None:
    def adopt_and_reap() -> list[int]:
        processes.become_subreaper()
        subprocess.run(["sh", "-c", "(sleep 0.1) & exit 0"], check=True)
        until(process_trees.zombies)
        (zombie,) = process_trees.zombies()
        process_trees.reap({zombie, os.getppid()})  # one that is no child is left alone
        return [zombie, *process_trees.zombies()]

    (zombie,) = forked.run(adopt_and_reap)
    assert not psutil.pid_exists(zombie)


def test_a_halted_process_is_woken_with_its_children(tmp_path: Path) -> None:
    with subprocess.Popen(["sh", "-c", "sleep 600 & wait"], start_new_session=True) as parent:
        try:
            (child,) = until(lambda: psutil.Process(parent.pid).children())
            os.killpg(parent.pid, signal.SIGSTOP)
            until(lambda: is_halted(parent.pid) and is_halted(child.pid))
            process_trees.wake(parent.pid)
            until(lambda: not is_halted(parent.pid) and not is_halted(child.pid))
        finally:
            os.killpg(parent.pid, signal.SIGKILL)
    process_trees.wake(parent.pid)  # it is gone


def test_a_killed_session_takes_its_processes_but_no_others(sleeper: subprocess.Popen[bytes]) -> None:
    leader = subprocess.Popen(["sh", "-c", "sleep 600 & exit 0"], start_new_session=True)
    leader.wait()
    (left,) = [process for process in psutil.process_iter() if _session(process.pid) == leader.pid]
    process_trees.kill_session(leader.pid)
    assert process_trees.wait([left], seconds=60) == []
    assert sleeper.poll() is None


def test_killed_processes_are_gone_when_kill_returns(sleeper: subprocess.Popen[bytes]) -> None:
    ended = subprocess.Popen(["true"])
    targets = [psutil.Process(ended.pid), psutil.Process(sleeper.pid)]
    ended.wait()
    process_trees.kill(targets)
    assert sleeper.poll() == -signal.SIGKILL


def test_a_process_that_does_not_end_is_waited_for_only_so_long(sleeper: subprocess.Popen[bytes]) -> None:
    target = psutil.Process(sleeper.pid)
    assert process_trees.wait([target], seconds=0.1) == [target]


def test_memory_counts_descendants_and_is_zero_for_a_process_that_is_gone() -> None:
    code = "data = b'x' * 30_000_000; print(flush=True); import time; time.sleep(600)"
    command = ["sh", "-c", '"$0" -c "$1"; true', sys.executable, code]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        (child,) = psutil.Process(parent.pid).children()
        sizes = process_trees.memory([parent.pid, child.pid])
        child.kill()
    assert sizes[parent.pid] > sizes[child.pid] > 30_000_000
    assert process_trees.memory([parent.pid]) == {parent.pid: 0}


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0
