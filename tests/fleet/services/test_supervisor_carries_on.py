"""The supervisor reports failures of anything but its services, and carries on."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from fleet import errors
from fleet.host import processes
from fleet.services.supervision.supervisor import LOG_BYTES
from tests.fleet.services.supervisor_harness import SupervisorHarness, new_service, no_work, probe_of
from tests.support.processes import forked


def test_a_restart_that_fails_is_refused_with_the_reason(tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.touch()
    code = f"import os, time\nif not os.path.exists({str(room)!r}): raise SystemExit('no room')\ntime.sleep(600)"
    harness = SupervisorHarness(tmp_path / "home", new_service("base", code, probe=probe_of(room)))

    async def restart() -> None:
        room.unlink()
        with pytest.raises(errors.Unavailable, match=r"base is not healthy after the restart: .* no room\."):
            await harness.supervisor._handle_request({"do": "restart", "name": "base"})

    assert harness.run(restart) == 0


def test_a_container_that_cannot_be_removed_does_not_keep_the_supervisor_from_stopping(tmp_path: Path) -> None:
    def fail() -> None:
        raise errors.Unavailable("podman does not answer.")

    harness = SupervisorHarness(tmp_path, new_service("base", clean_up=fail), new_service("top"))
    assert harness.run(no_work) == 0
    assert harness.output[-3:] == [
        "top: stopping",
        "base: stopping",
        "base: could not be cleaned up: podman does not answer.",
    ]


def test_an_event_that_cannot_be_recorded_is_reported_and_the_service_restarted(tmp_path: Path) -> None:
    harness = SupervisorHarness(tmp_path, new_service("base"))
    (harness.home.private / "events.jsonl").mkdir()

    async def kill_it() -> None:
        psutil.Process(harness.service("base")["pid"]).kill()
        await harness.until(lambda: harness.service("base")["healthy"] and harness.service("base")["restarts"] == 1)

    assert harness.run(kill_it) == 0
    assert any(line.startswith("base: an event could not be recorded: ") for line in harness.output), harness.output


def test_logs_that_cannot_be_rotated_are_truncated_with_a_message(tmp_path: Path) -> None:
    harness = SupervisorHarness(tmp_path, new_service("base"))
    log = harness.home.logs / "old.log"
    with log.open("wb") as file:
        file.truncate(LOG_BYTES + 1)
    (harness.home.logs / "old.log.1").mkdir()

    async def until_reported() -> None:
        await harness.until(lambda: any("The logs could not be rotated: " in line for line in harness.output))

    assert harness.run(until_reported) == 0
    assert log.stat().st_size == 0


def test_a_process_that_a_service_left_running_is_ended_and_named(tmp_path: Path) -> None:
    leave = "import subprocess, time\nsubprocess.Popen(['sh', '-c', 'setsid sleep 600 & exit'])\ntime.sleep(600)"

    def supervise() -> list[str]:
        processes.become_subreaper()
        harness = SupervisorHarness(tmp_path, new_service("base", leave))

        async def until_left() -> None:
            await harness.until(lambda: any(child.name() == "sleep" for child in psutil.Process().children()))

        assert harness.run(until_left) == 0
        return harness.output

    name, _, text = forked.run(supervise)[-1].partition(": ")
    assert text == "ended, because its parent left it running"
    assert name.startswith("sleep (")
    assert not psutil.pid_exists(int(name.removeprefix("sleep (").removesuffix(")")))
