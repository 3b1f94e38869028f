"""A whole fleet under `fleet_up`: ports, secrets, and what remains after it or a part of it is killed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.processes.running import agents
from tests.support.processes.supervised import Checkout, checkout
from tests.support.waiting import until

pytestmark = [pytest.mark.xdist_group("services"), pytest.mark.timeout(300)]  # for whole fleets on a busy machine

KEY = "signs-what-the-web-process-gives-out-and-is-nobody-elses"
NAMES = ["postgres", "valkey", "prepare", "control", "web", "flower", "node"]


@pytest.fixture(scope="module")
def taken_port() -> Iterator[int]:
    """A port on which another program listens."""
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        yield int(somebody.getsockname()[1])


@pytest.fixture(scope="module")
def home(taken_port: int) -> Iterator[Checkout]:
    quick = {"FLEET_HEARTBEAT_S": "0.5", "FLEET_GRACE_S": "1", "FLEET_DRAIN_S": "1", "FLEET_SCRIPTED_DRIVER": "yes"}
    with checkout(env={"FLEET_WEB_PORT": str(taken_port), "FLEET_JWT_KEY": KEY, **quick}) as new_home:
        yield new_home


def get(url: str, *, within_s: float) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(url, timeout=within_s) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as refusal:
        return refusal.code, json.load(refusal)


def places_of(secret: str, home: Checkout) -> list[str]:
    """The places where others can read a secret: process lists, logs and `--json`."""
    found = [
        str(log) for log in (home.root / "private" / "logs").iterdir() if secret in log.read_text(errors="replace")
    ]
    for process in psutil.process_iter():
        try:
            found += [str(process.pid)] if any(secret in word for word in process.cmdline()) else []
        except psutil.Error:
            continue
    return found + (["status"] if secret in json.dumps(home.status()) else [])


def processes_with(secret: str, home: Checkout) -> set[int]:
    """The processes that have a secret in their environment."""
    found = set()
    for process in home.processes():
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile, or has just made itself unreadable
            found |= {process.pid} if secret in process.environ().values() else set()
    return found


def test_a_fleet_starts_beside_taken_ports_keeps_its_secrets_and_stops_at_a_signal(
    home: Checkout, taken_port: int
) -> None:
    running = home.start("fleet_up")
    status = home.until_ready()
    assert [service["name"] for service in status["services"]] == NAMES
    assert {service["state"] for service in status["services"]} == {"healthy", "done"}

    second_fleet = home.json("fleet_up", "--detach")
    urls = second_fleet["urls"]
    assert (second_fleet["pid"], set(urls)) == (running.pid, {"api", "admin", "flower", "metrics"})
    assert str(taken_port) not in urls["api"] + urls["flower"]
    assert urls["flower"] == urls["admin"].replace("/admin/", "/flower/")

    result = home.manage("fleet_services", "up", "--detach")
    assert "The services are already running." in result.stderr
    assert home.status()["pid"] == running.pid

    file = home.root / "private" / "credentials.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    for name, secret in home.credentials().items():
        assert places_of(secret, home) == [], name
    assert places_of(KEY, home) == []
    values = {service["name"]: service["pid"] for service in status["services"] if service["pid"]}
    assert {values["node"], values["control"]} < {process.pid for process in home.processes()}
    web = {values["web"], *(worker.pid for worker in psutil.Process(values["web"]).children())}
    assert processes_with(KEY, home) == {running.pid, *web}  # including the agents, which are forks of the node
    assert not (home.root / "private" / "jwt.key").exists()
    assert "No directory at" not in (home.root / "private" / "logs" / "web.log").read_text()

    ready = urls["api"].split("/api/")[0] + "/readyz"
    assert get(ready, within_s=60)[0] == 200
    postgres = psutil.Process(home.service("postgres")["pid"])
    family = [postgres, *postgres.children()]
    for process in family:
        process.send_signal(signal.SIGSTOP)
    try:
        code, values = get(ready, within_s=60)
    finally:
        for process in family:
            process.send_signal(signal.SIGCONT)
    assert (code, values["checks"]["database"]["ok"]) == (503, False)

    running.send_signal(signal.SIGINT)
    out, text = running.communicate(timeout=40)
    assert (running.returncode, out) == (0, ""), text
    stopped = re.findall(r"^(\w+): stopping$", text, re.MULTILINE)
    assert stopped == [name for name in reversed(NAMES) if name != "prepare"]
    assert home.left_behind() == []


@pytest.mark.drill
def test_killing_node_and_supervisor_leaves_no_worker_and_the_next_fleet_continues(
    home: Checkout, tmp_path: Path
) -> None:
    running = home.start("fleet_up")
    home.until_ready()
    first = set(until(lambda: len(found := agents(home.root)) == 6 and found))
    flag = tmp_path / "go"
    plan = tmp_path / "plan.json"
    work = {"agent": "backend", "run": f"until test -e '{flag}'; do sleep 0.1; done; echo flown"}
    plan.write_text(json.dumps({"mission": "Survives", "sorties": {"work": work}}))
    mission = home.json("fleet_mission", "run", str(plan), "--detach", cwd=tmp_path)["id"]

    os.kill(home.service("node")["pid"], signal.SIGKILL)
    until(lambda: not any(process.is_running() and process.status() != "zombie" for process in first))
    until(lambda: len(agents(home.root)) == 6)

    running.kill()
    running.communicate(timeout=60)
    until(lambda: not home.processes())

    flag.touch()
    second_fleet = home.start("fleet_up")
    home.until_ready()
    home.manage("fleet_mission", "watch", mission, "--timeout", "40", timeout=60)
    assert home.json("fleet_mission", "show", mission)["state"] == "succeeded"
    second_fleet.send_signal(signal.SIGTERM)
    second_fleet.communicate(timeout=40)
    assert home.left_behind() == []


@pytest.mark.drill
def test_a_second_ctrl_c_leaves_no_process_even_of_work_that_ignores_signals(home: Checkout, tmp_path: Path) -> None:
    running = home.start("fleet_up")
    home.until_ready()
    plan = tmp_path / "plan.json"
    work = {"agent": "backend", "run": "trap '' TERM INT; setsid sleep 7411 & sleep 7412; sleep 7413"}
    plan.write_text(json.dumps({"mission": "Stubborn", "sorties": {"work": work}}))
    home.manage("fleet_mission", "run", str(plan), "--detach")
    until(lambda: len(asleep()) == 2)
    running.send_signal(signal.SIGINT)
    until(lambda: home.status().get("stopping"))
    time.sleep(0.2)  # as long as between two presses of Ctrl-C
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert home.processes() == []
    assert asleep() == []


def asleep() -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.name() == "sleep" and process.cmdline()[-1] in {"7411", "7412", "7413"}:
                found.append(process.pid)
        except (psutil.Error, IndexError):
            continue
    return found
