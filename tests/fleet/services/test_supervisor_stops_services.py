"""The supervisor stops its services, whatever they or the terminal do."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import psutil

from fleet.config.home import Home
from fleet.services.supervision import lock
from fleet.services.supervision.supervisor import Supervisor
from tests.fleet.services.supervisor_harness import FOREVER, SupervisorHarness, new_service, no_work
from tests.support.waiting import until


def is_dead(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_service_that_ignores_its_stop_signal_is_killed_with_its_session(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    stubborn = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); child = os.fork();"
        f"child and open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child}}'); time.sleep(600)"
    )
    harness = SupervisorHarness(tmp_path / "home", new_service("base", stubborn, grace_s=0.1))

    async def until_it_has_forked() -> None:
        await harness.until(lambda: pids.exists() and len(pids.read_text().split()) == 2)

    assert harness.run(until_it_has_forked) == 0
    assert "base: does not stop; killing it" in harness.output
    for pid in map(int, pids.read_text().split()):
        until(lambda: is_dead(pid))  # noqa: B023  (called immediately)


def test_a_second_signal_kills_services_that_do_not_stop(tmp_path: Path) -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
    harness = SupervisorHarness(tmp_path, new_service("base", stubborn, grace_s=600))

    async def interrupt_twice() -> None:
        await harness.until(lambda: "ready" in (harness.home.logs / "base.log").read_text())
        os.kill(os.getpid(), signal.SIGINT)
        await harness.until(lambda: harness.supervisor.status()["stopping"])
        assert not harness.supervisor.status()["ready"]
        asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGINT)

    assert harness.run(interrupt_twice) == 0
    assert "base: does not stop; killing it" in harness.output


def test_a_stopping_service_is_not_healthy(tmp_path: Path) -> None:
    slow_to_end = (
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), sys.exit()))\n"
        "print('ready', flush=True)\n" + FOREVER
    )
    states: set[str] = set()
    harness = SupervisorHarness(tmp_path, new_service("base", slow_to_end, probe=no_work, probe_every_s=0.01))

    watchers: list[asyncio.Task[None]] = []  # the event loop keeps only weak references to its tasks

    async def watch() -> None:
        while (state := harness.service("base")["state"]) != "stopped":
            if states or state == "stopping":
                states.add(state)
            await asyncio.sleep(0.005)

    async def work() -> None:
        await harness.until(lambda: "ready" in (harness.home.logs / "base.log").read_text())
        watchers.append(asyncio.create_task(watch()))

    assert harness.run(work) == 0
    assert states == {"stopping"}


def test_services_stop_even_if_the_terminal_is_closed(tmp_path: Path) -> None:
    def broken(line: str) -> None:
        raise OSError(5, "Input/output error")

    home = Home(tmp_path)
    supervisor = Supervisor(
        home=home, kind="services", provider="trial", services=(new_service("base"), new_service("top")), say=broken
    )

    async def work() -> int:
        return 7

    assert asyncio.run(asyncio.wait_for(supervisor.run(work), 20)) == 7
    assert not lock.is_held(home)
