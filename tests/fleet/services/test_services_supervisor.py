"""The supervisor starts and stops services in order, and keeps them running. The services are small, real processes."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from fleet import errors
from fleet.config.home import Home
from fleet.services import journal
from fleet.services.supervision import lock
from fleet.services.supervision.service import AlertLimits, Backoff, Command, Service
from fleet.services.supervision.supervisor import Supervisor
from tests.support.supervised import until

QUICK = Backoff(first_s=0.01, attempts=2)
FOREVER = "import time; time.sleep(600)"


class SupervisorHarness:
    """A supervisor in this process, with its output and its journal."""

    def __init__(self, root: Path, *services: Service) -> None:
        self.home = Home(root)
        self.home.create_folders()
        self.output: list[str] = []
        self.supervisor = Supervisor(
            home=self.home, kind="services", provider="trial", services=services, say=self.output.append
        )

    def run(self, work: Callable[[], Awaitable[Any]]) -> int:
        """Start all services, do the work, and stop them. Returns the exit code; no process may be left."""

        async def do_work() -> int:
            await work()
            return 0

        before = psutil.Process().children(recursive=True)
        code = asyncio.run(asyncio.wait_for(self.supervisor.run(do_work), 120))
        assert psutil.Process().children(recursive=True) == before
        return code

    def run_until(self, condition: Callable[[], bool]) -> int:
        """Run the supervisor without waiting for readiness, and stop it once the condition holds."""

        async def run_and_stop() -> int:
            running = asyncio.create_task(self.supervisor.run())
            await self.until(condition)
            self.supervisor.stop()
            return await running

        return asyncio.run(asyncio.wait_for(run_and_stop(), 120))

    async def until(self, condition: Callable[[], bool], *, within_s: float = 60) -> None:
        end = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < end, f"not true within {within_s} s: {self.output}"
            await asyncio.sleep(0.01)

    def service(self, name: str) -> dict[str, Any]:
        return next(item for item in self.supervisor.status()["services"] if item["name"] == name)

    def kinds(self) -> list[str]:
        return [entry.kind for entry in journal.last(self.home, 100)]


def python(code: str, *arguments: str, cwd: Path = Path("/")) -> Callable[[], Command]:
    return lambda: Command(argv=(sys.executable, "-c", code, *arguments), cwd=cwd)


def probe_of(path: Path) -> Callable[[], Awaitable[None]]:
    async def probe() -> None:
        if not path.exists():
            raise errors.Unavailable("It is not there yet.")

    return probe


def new_service(name: str, code: str = FOREVER, **more: Any) -> Service:
    return Service(name=name, **{"command": python(code), "probe": None, "backoff": QUICK, "grace_s": 3, **more})


async def no_work() -> None:
    pass


def test_the_supervisor_is_ready_only_after_its_introduction(tmp_path: Path) -> None:
    harness = SupervisorHarness(tmp_path)

    async def introduce() -> None:
        await asyncio.sleep(0)
        assert not harness.supervisor.status()["ready"]
        harness.supervisor.say("introduction")

    async def work() -> int:
        assert harness.supervisor.status()["ready"]
        assert "introduction" in harness.output
        return 7

    assert asyncio.run(harness.supervisor.run(work, introduce=introduce)) == 7


def test_services_start_after_their_needs_and_stop_in_reverse(tmp_path: Path) -> None:
    flag = tmp_path / "sign"
    slow = f"import time; time.sleep(0.3); open({str(flag)!r}, 'w'); time.sleep(600)"
    harness = SupervisorHarness(
        tmp_path / "home",
        new_service("base", slow, probe=probe_of(flag)),
        new_service("step", "print('done')", once=True, needs=("base",)),
        new_service("top", needs=("base", "step")),
    )
    assert harness.run(no_work) == 0
    assert harness.output == [
        "base: starting", "base: healthy", "step: running", "top: starting", "top: healthy",
        "top: stopping", "base: stopping",
    ]  # fmt: skip


def test_a_failed_step_stops_the_start_and_its_last_lines_are_printed(tmp_path: Path) -> None:
    harness = SupervisorHarness(
        tmp_path,
        new_service("base"),
        new_service("step", "raise SystemExit('no room')", once=True),
        new_service("top", needs=("step",)),
    )
    assert harness.run(no_work) == 1
    assert "step: failed: it ended with exit code 1; its last output: no room" in harness.output
    assert "top: starting" not in harness.output


def test_a_service_that_is_not_vital_may_fail(tmp_path: Path) -> None:
    harness = SupervisorHarness(tmp_path, new_service("base"), new_service("extra", "raise SystemExit(1)", vital=False))

    async def until_it_failed() -> None:
        await harness.until(lambda: harness.service("extra")["state"] == "failed")

    assert harness.run(until_it_failed) == 0
    assert harness.kinds().count("service.failed") == 1


def test_a_killed_service_is_restarted_up_to_a_limit_and_then_on_request(tmp_path: Path) -> None:
    harness = SupervisorHarness(tmp_path, new_service("base", limits=AlertLimits(restarts=1)))

    async def kill_it_thrice() -> None:
        for lives in range(3):
            await harness.until(lambda: harness.service("base")["healthy"])
            os.kill(harness.service("base")["pid"], signal.SIGKILL)
            await harness.until(lambda: harness.output.count("base: healthy") == lives + 2 or lives == 2)  # noqa: B023
        await harness.until(lambda: harness.service("base")["state"] == "failed")
        dead_service = harness.service("base")
        assert (dead_service["pid"], dead_service["healthy"], dead_service["restarts"]) == (None, False, 2)
        assert dead_service["error"] == "it was killed by SIGKILL"
        assert [entry["kind"] for entry in harness.supervisor.status()["events"]] == harness.kinds()
        await harness.supervisor._handle_request({"do": "restart", "name": "base"})
        assert harness.service("base")["healthy"]

    assert harness.run(kill_it_thrice) == 0
    assert harness.kinds() == ["service.restarted", "service.restarted", "service.restarts", "service.failed"]


def test_a_service_that_does_not_answer_is_restarted_even_if_paused(tmp_path: Path) -> None:
    """It is ended with its children, which have their own sessions, as those of Postgres do."""
    flag = tmp_path / "sign"
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


def test_a_service_that_never_answers_fails(tmp_path: Path) -> None:
    harness = SupervisorHarness(tmp_path, new_service("base", probe=probe_of(tmp_path / "never"), ready_s=0.1))
    assert harness.run(no_work) == 1
    assert any("did not answer within" in line and "It is not there yet." in line for line in harness.output)


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


def is_dead(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_second_signal_kills_services_that_do_not_stop(tmp_path: Path) -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    harness = SupervisorHarness(tmp_path, new_service("base", deaf, grace_s=600))

    async def interrupt_twice() -> None:
        await harness.until(lambda: "deaf" in (harness.home.logs / "base.log").read_text())
        os.kill(os.getpid(), signal.SIGINT)
        await harness.until(lambda: harness.supervisor.status()["stopping"])
        assert not harness.supervisor.status()["ready"]
        asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGINT)

    assert harness.run(interrupt_twice) == 0
    assert "base: does not stop; killing it" in harness.output


def test_a_stopping_service_is_not_healthy(tmp_path: Path) -> None:
    slow_to_go = (
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), sys.exit()))\n"
        "print('listens', flush=True)\n" + FOREVER
    )
    states: set[str] = set()
    harness = SupervisorHarness(tmp_path, new_service("base", slow_to_go, probe=no_work, probe_every_s=0.01))

    watchers: list[asyncio.Task[None]] = []  # the event loop keeps only weak references to its tasks

    async def watch() -> None:
        while (state := harness.service("base")["state"]) != "stopped":
            if states or state == "stopping":
                states.add(state)
            await asyncio.sleep(0.005)

    async def work() -> None:
        await harness.until(lambda: "listens" in (harness.home.logs / "base.log").read_text())
        watchers.append(asyncio.create_task(watch()))

    assert harness.run(work) == 0
    assert states == {"stopping"}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyError("port")])
def test_an_unexpected_error_at_a_start_does_not_end_the_runner(tmp_path: Path, error: Exception) -> None:
    def surprise() -> Command:
        raise error

    harness = SupervisorHarness(tmp_path, new_service("base"), new_service("odd", command=surprise))
    assert harness.run(no_work) == 1
    assert f"odd: failed: {type(error).__name__}: {error}" in harness.output
    assert harness.output[-1] == "base: stopping"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_first_start_without_space_or_permission_is_not_retried(tmp_path: Path, number: int) -> None:
    code = f"import os; raise SystemExit(f'FATAL: data: {{os.strerror({number})}}')"
    harness = SupervisorHarness(tmp_path, new_service("base", code, probe=probe_of(tmp_path / "never")))
    assert harness.run(no_work) == 1
    assert harness.service("base")["restarts"] == 0
    assert harness.output[-2:] == [
        f"base: failed: it ended with exit code 1; its last output: FATAL: data: {os.strerror(number)}",
        "base could not be started; stopping the other services.",
    ]


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


def test_an_unexpected_error_of_a_probe_stops_the_process(tmp_path: Path) -> None:
    async def odd() -> None:
        raise ValueError("no such port")

    harness = SupervisorHarness(tmp_path, new_service("base", probe=odd))
    assert harness.run(no_work) == 1
    assert "base: failed: ValueError: no such port" in harness.output


def test_a_refused_configuration_fails_at_once(tmp_path: Path) -> None:
    async def refuse() -> None:
        raise errors.Invalid("It wants a password.")

    harness = SupervisorHarness(tmp_path, new_service("theirs", command=None, probe=refuse))
    assert harness.run(no_work) == 1
    assert harness.service("theirs")["restarts"] == 0
    assert "theirs: failed: It wants a password." in harness.output


def test_a_stop_before_readiness_exits_with_130_and_starts_nothing_more(tmp_path: Path) -> None:
    harness = SupervisorHarness(
        tmp_path, new_service("base", probe=probe_of(tmp_path / "never")), new_service("top", needs=("base",))
    )
    assert harness.run_until(lambda: "base: starting" in harness.output) == 130
    assert "top: starting" not in harness.output


def test_a_status_measures_memory_only_on_request(tmp_path: Path) -> None:
    harness = SupervisorHarness(tmp_path, new_service("base"))

    async def compare() -> None:
        await harness.supervisor._handle_request({"do": "status", "measure": False})
        assert harness.service("base")["memory_bytes"] is None
        await harness.supervisor._handle_request({"do": "status"})
        assert harness.service("base")["memory_bytes"] > 0

    assert harness.run(compare) == 0


def test_each_crossing_of_a_limit_is_reported_once(tmp_path: Path) -> None:
    flag = tmp_path / "slow"
    flag.touch()

    async def slow_while_signed() -> None:
        await asyncio.sleep(0.4 if flag.exists() else 0)

    limits = AlertLimits(response_s=0.2, memory_bytes=1_000_000)
    harness = SupervisorHarness(
        tmp_path / "home", new_service("base", probe=slow_while_signed, probe_every_s=0.02, limits=limits)
    )

    async def let_it_pass() -> None:
        for _ in range(3):  # a request for the status also measures memory
            await harness.supervisor._handle_request({"do": "status"})
        await harness.until(lambda: "service.slow" in harness.kinds())
        await asyncio.sleep(1)  # two more slow answers
        flag.unlink()
        await harness.until(lambda: "service.normal" in harness.kinds())

    assert harness.run(let_it_pass) == 0
    assert sorted(harness.kinds()) == ["service.large", "service.normal", "service.slow"]
    (large,) = [entry for entry in journal.last(harness.home, 100) if entry.kind == "service.large"]
    assert large.data["limit"] == 1_000_000
    assert int(large.data["value"] or 0) > 1_000_000
    assert "MB of memory" in large.message


def test_events_of_an_earlier_start_are_not_shown(tmp_path: Path) -> None:
    harness = SupervisorHarness(tmp_path, new_service("base"))
    journal.append(harness.home, kind="service.failed", service="base", message="It failed yesterday.", data={})
    assert harness.supervisor.status()["events"] == []
    assert harness.kinds() == ["service.failed"]  # but it is still in the journal


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


def test_only_one_supervisor_runs_per_home(tmp_path: Path) -> None:
    first, second = SupervisorHarness(tmp_path, new_service("base")), SupervisorHarness(tmp_path, new_service("base"))

    async def another() -> None:
        with pytest.raises(lock.AlreadyRunning, match="is already running"):
            await second.supervisor.run()

    assert first.run(another) == 0
    assert second.output == []


def test_the_lock_of_a_supervisor_can_be_checked_on_a_read_only_disk(tmp_path: Path) -> None:
    harness = SupervisorHarness(tmp_path)
    with lock.hold(harness.home):
        pass
    check = (
        "from pathlib import Path; from fleet.config.home import Home; from fleet.services.supervision import lock; "
        f"print(lock.is_held(Home(Path({str(tmp_path)!r}))))"
    )
    read_only = (
        f'mount --bind {tmp_path} {tmp_path} && mount -o remount,bind,ro {tmp_path} && exec {sys.executable} -c "$0"'
    )
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", read_only, check], capture_output=True, text=True, check=False
    )
    if "unshare" in result.stderr:
        pytest.skip("this host refuses user namespaces")
    assert result.stdout == "False\n", result.stderr
