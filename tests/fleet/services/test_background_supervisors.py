"""Commands find, await and stop a supervisor in the background, and say why one did not start."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import errors
from fleet.config.home import Home
from fleet.host import processes
from fleet.services import detached
from fleet.services.supervision import beats, control_socket, lock
from fleet.services.supervision.children import ChildRegistry
from tests.fleet.services.supervisor_harness import SupervisorHarness, new_service, probe_of
from tests.support.processes import forked
from tests.support.waiting import until


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.create_folders()
    return home


@pytest.fixture
def orphan(home: Home) -> Iterator[subprocess.Popen[bytes]]:
    """A process that a killed supervisor left; it ignores its stop signal."""
    ready = home.run / "ready"
    stubborn = f"trap '' TERM; touch {ready}; while :; do sleep 0.1; done"
    with subprocess.Popen(["sh", "-c", stubborn], start_new_session=True) as process:
        until(ready.exists)
        ChildRegistry(home).add(name="valkey", pid=process.pid, stop_signal=signal.SIGTERM, grace_s=0.2)
        yield process
        process.kill()


def ignore(line: str) -> None: ...


def test_a_stop_ends_what_a_killed_supervisor_left_even_if_it_resists(
    home: Home, orphan: subprocess.Popen[bytes]
) -> None:
    assert detached.state(home) == {"running": False, "left": [{"name": "valkey", "pid": orphan.pid}]}
    output: list[str] = []
    assert detached.stop(home, say=output.append)
    assert orphan.wait(60) == -signal.SIGKILL
    assert output == ["valkey: stopping the process that an earlier supervisor left"]
    assert detached.state(home) == {"running": False, "left": []}
    assert not detached.stop(home, say=ignore)


def test_processes_are_recorded_by_a_time_that_setting_the_clock_does_not_change(
    home: Home, orphan: subprocess.Popen[bytes]
) -> None:
    (record,) = json.loads((home.run / "children.json").read_text())
    assert record["start_time"] == processes.start_time_of(orphan.pid)


@pytest.mark.parametrize(("field", "other"), [("start_time", 1.0), ("boot", "another")])
def test_processes_with_the_pid_of_one_that_ended_are_left_alone(home: Home, field: str, other: object) -> None:
    with subprocess.Popen(["sleep", "600"]) as stranger:
        ChildRegistry(home).add(name="valkey", pid=stranger.pid, stop_signal=signal.SIGTERM, grace_s=1)
        file = home.run / "children.json"
        (record,) = json.loads(file.read_text())
        assert field in record
        file.write_text(json.dumps([{**record, field: other}]))
        found = detached.state(home)["left"]
        stopped = detached.stop(home, say=ignore)
        stranger.kill()
    assert (found, stopped) == ([], False)
    assert stranger.returncode == -signal.SIGKILL, "nothing else ended it"


@pytest.mark.parametrize("damage", ["", "[", "null", "[1]", '[{"name": "valkey"}]'])
def test_a_damaged_record_of_processes_prevents_no_stop(home: Home, damage: str) -> None:
    (home.run / "children.json").write_text(damage)
    assert detached.state(home) == {"running": False, "left": []}
    assert not detached.stop(home, say=ignore)


def test_a_stop_in_a_folder_without_a_fleet_creates_nothing(tmp_path: Path) -> None:
    assert not detached.stop(Home(tmp_path / "none"), say=ignore)
    assert detached.running_status(Home(tmp_path / "none")) is None
    assert not (tmp_path / "none").exists()


def test_a_start_that_fails_shows_its_reason_and_names_the_log(home: Home) -> None:
    log = home.logs / "supervisor.log"
    log.write_text("a line of an earlier start\n")
    output: list[str] = []
    with pytest.raises(errors.Unavailable, match="failed for the reason given above") as failure:
        detached.start(
            home, base=home.run, argv=("sh", "-c", "echo no room; echo on the disk; exit 1"), say=output.append
        )
    assert output == ["no room", "on the disk"]
    assert failure.value.hint == f"The full log is {log}."
    assert not lock.is_held(home)


def test_a_start_beside_a_running_supervisor_starts_nothing(home: Home) -> None:
    with lock.hold(home):
        assert detached.start(home, base=home.run, argv=("no such program",), say=ignore) is None
    assert not (home.logs / "supervisor.log").exists()


def test_a_supervisor_that_finds_another_one_has_not_failed(home: Home) -> None:
    """Another command took the lock while this one started its supervisor."""
    taken = home.run / "taken"
    with contextlib.ExitStack() as stack:

        def say(line: str) -> None:
            if line == "starting":
                stack.enter_context(lock.hold(home))
                taken.touch()

        argv = ("sh", "-c", f"echo starting; while [ ! -e {taken} ]; do sleep 0.02; done; exit 1")
        assert detached.start(home, base=home.run, argv=argv, say=say) is None


def test_ctrl_c_during_a_start_stops_it_and_another_one_shortens_the_stop(home: Home) -> None:
    supervisor = (
        "import signal, sys, time\nsignals = []\ndef stop(*_):\n    signals.append(1)\n    print('stop', flush=True)\n"
        "    len(signals) == 2 and sys.exit(130)\nsignal.signal(signal.SIGTERM, stop)\nprint('begun', flush=True)\n"
        "while True: time.sleep(0.05)\n"
    )

    def start_and_interrupt() -> list[str]:
        output: list[str] = []

        def say(line: str) -> None:
            output.append(line)
            if line == "begun" or output.count("stop") == 1:
                threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()

        try:
            detached.start(home, base=home.run, argv=(sys.executable, "-c", supervisor), say=say)
        except KeyboardInterrupt:
            output.append("interrupted")
        return output

    assert forked.run(start_and_interrupt) == [
        "begun",
        "Interrupted. Stopping what has been started.",
        "stop",
        "stop",
        "The start was interrupted. What it had started is stopped.",
        "interrupted",
    ]


def test_ctrl_c_while_waiting_for_another_start_says_that_it_continues(home: Home) -> None:
    def wait_and_interrupt() -> list[str]:
        output: list[str] = []

        def say(line: str) -> None:
            output.append(line)
            if line.startswith("A start is already in progress"):
                threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()

        try:
            detached.start(home, base=home.run, argv=("no such program",), say=say)
        except KeyboardInterrupt:
            output.append("interrupted")
        return output

    with lock.hold_start(home, ignore):
        first, second, third = forked.run(wait_and_interrupt)
    assert first == "A start is already in progress. Waiting until it is done."
    assert second.startswith("No longer waiting. The start continues. Show it: ")
    assert third == "interrupted"


def test_a_lock_that_stays_held_is_waited_for_only_so_long(home: Home) -> None:
    with lock.hold(home):
        started = time.monotonic()
        assert not lock.wait_until_free(home, seconds=0.2)
        assert 0.2 <= time.monotonic() - started < 10
    assert lock.wait_until_free(home, seconds=0)


def test_a_process_without_a_recent_heartbeat_is_unhealthy(home: Home) -> None:
    def probe() -> None:
        asyncio.run(beats.probe(home, "fleet_node")())  # type: ignore[arg-type]

    with pytest.raises(errors.Unavailable, match="has not started its loop yet"):
        probe()
    beats.beat(home, "fleet_node")
    probe()
    os.utime(home.run / "fleet_node.beat", (time.time() - 45,) * 2)
    with pytest.raises(errors.Unavailable, match="has sent no heartbeat for 45 s"):
        probe()
    beats.clear(home, "fleet_node")
    with pytest.raises(errors.Unavailable, match="has not started its loop yet"):
        probe()


def test_a_command_waits_for_a_supervisor_that_is_starting_and_for_one_that_is_stopping(tmp_path: Path) -> None:
    flag, may_end = tmp_path / "flag", tmp_path / "may end"
    slow_to_end = (
        "import os, signal, time\nsignal.signal(signal.SIGTERM, lambda *_: None)\nprint('ready', flush=True)\n"
        f"while not os.path.exists({str(may_end)!r}): time.sleep(0.02)\n"
    )
    harness = SupervisorHarness(tmp_path / "home", new_service("base", slow_to_end, probe=probe_of(flag), grace_s=60))

    async def watch() -> None:
        running = asyncio.create_task(harness.supervisor.run())
        await harness.until(lambda: "base: starting" in harness.output)
        waiting = asyncio.create_task(asyncio.to_thread(detached.wait_until_ready, harness.home, say=ignore))
        found = await asyncio.to_thread(detached.running_status, harness.home)
        assert found is not None
        assert not found["ready"]
        assert not waiting.done()
        flag.touch()
        assert (await waiting)["ready"]
        await harness.until(lambda: "ready" in (harness.home.logs / "base.log").read_text())
        harness.supervisor.stop()
        finding = asyncio.create_task(asyncio.to_thread(detached.running_status, harness.home))
        await harness.until(lambda: "base: stopping" in harness.output)
        assert not finding.done()
        may_end.touch()
        assert await finding is None
        assert await running == 0

    asyncio.run(asyncio.wait_for(watch(), 60))


def test_a_wait_for_a_supervisor_that_ends_does_not_go_on(home: Home) -> None:
    with pytest.raises(control_socket.NotRunning):
        detached.wait_until_ready(home, say=ignore)
