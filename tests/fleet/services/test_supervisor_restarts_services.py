"""The supervisor restarts a service that ends or no longer answers, up to a limit."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import psutil

from fleet.services.supervision.service import AlertLimits, Overloaded
from tests.fleet.services.supervisor_harness import SupervisorHarness, new_service, probe_of


def test_a_killed_service_is_restarted_up_to_a_limit_and_then_on_request(tmp_path: Path) -> None:
    harness = SupervisorHarness(tmp_path, new_service("base", limits=AlertLimits(restarts=1)))

    async def kill_it_three_times() -> None:
        for kills in range(3):
            await harness.until(lambda: harness.service("base")["healthy"])
            os.kill(harness.service("base")["pid"], signal.SIGKILL)
            await harness.until(lambda: harness.output.count("base: healthy") == kills + 2 or kills == 2)  # noqa: B023
        await harness.until(lambda: harness.service("base")["state"] == "failed")
        dead_service = harness.service("base")
        assert (dead_service["pid"], dead_service["healthy"], dead_service["restarts"]) == (None, False, 2)
        assert dead_service["error"] == "it was killed by SIGKILL"
        assert [entry["kind"] for entry in harness.supervisor.status()["events"]] == harness.kinds()
        await harness.supervisor._handle_request({"do": "restart", "name": "base"})
        assert harness.service("base")["healthy"]

    assert harness.run(kill_it_three_times) == 0
    assert harness.kinds() == ["service.restarted", "service.restarted", "service.restarts", "service.failed"]


def test_a_service_that_does_not_answer_is_restarted_even_if_paused(tmp_path: Path) -> None:
    """It is ended with its children, which have their own sessions, as those of Postgres do."""
    flag = tmp_path / "flag"
    flag.touch()
    parent = (
        "import os, signal, sys, time; child = os.fork();"
        "signal.signal(signal.SIGTERM, lambda *_: (os.kill(child, 15), os.wait(), sys.exit()) if child else sys.exit());"
        "child or os.setsid(); time.sleep(600)"
    )
    harness = SupervisorHarness(
        tmp_path / "home", new_service("base", parent, probe=probe_of(flag), silent_s=0.2, probe_every_s=0.02)
    )

    async def silence_it() -> None:
        before = psutil.Process(harness.service("base")["pid"])
        await harness.until(lambda: len(before.children()) == 1 and os.getsid(before.children()[0].pid) != before.pid)
        family = [before, *before.children()]
        for item in family:
            item.send_signal(signal.SIGSTOP)
        flag.unlink()
        await harness.until(lambda: harness.service("base")["restarts"] == 1)
        await harness.until(lambda: not any(item.is_running() for item in family))
        flag.touch()
        await harness.until(lambda: harness.service("base")["healthy"])

    assert harness.run(silence_it) == 0
    assert harness.kinds() == ["service.silent", "service.restarted"]


def test_a_server_without_a_free_connection_is_not_restarted(tmp_path: Path) -> None:
    full, probes = tmp_path / "full", 0

    async def probe() -> None:
        nonlocal probes
        if full.exists():
            probes += 1
            raise Overloaded("It has no connection left.")

    service = new_service("base", probe=probe, silent_s=0, probe_every_s=0.02)
    harness = SupervisorHarness(tmp_path / "home", service)

    async def fill_it() -> None:
        full.touch()
        await harness.until(lambda: probes > 3)
        assert harness.service("base")["restarts"] == 0
        assert not harness.service("base")["healthy"]
        full.unlink()
        await harness.until(lambda: harness.service("base")["healthy"])

    assert harness.run(fill_it) == 0
    assert harness.kinds() == ["service.silent", "service.normal"]


def test_a_service_that_lacks_space_later_is_retried(tmp_path: Path) -> None:
    flag = tmp_path / "full"
    code = (
        f"import os, time\nwhile not os.path.exists({str(flag)!r}): time.sleep(0.01)\n"
        f"raise SystemExit(os.strerror({errno.ENOSPC}))"
    )
    harness = SupervisorHarness(tmp_path / "home", new_service("base", code))

    async def work() -> None:
        flag.touch()
        await harness.until(lambda: harness.service("base")["restarts"] >= 1)

    assert harness.run(work) == 0
    assert any("No space left on device; restarting it" in line for line in harness.output), harness.output
