"""Postgres and Valkey under `fleet_services up`: kills lose nothing, and stops leave nothing running."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from fleet.config.home import Home
from fleet.services.supervision import children
from tests.support.paths import CHECKOUT
from tests.support.processes.supervised import Checkout, checkout
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("services")


@pytest.fixture(scope="module")
def home() -> Iterator[Checkout]:
    with checkout(name="fleet services ") as new_home:  # a path with a space
        yield new_home


def up(home: Checkout) -> subprocess.Popen[str]:
    running = home.start("fleet_services", "up")
    home.until_ready()
    return running


def kill_until_healthy_again(home: Checkout, name: str) -> None:
    """Kill a service, and wait until another process of it is healthy."""
    old_pid = home.service(name)["pid"]
    os.kill(old_pid, signal.SIGKILL)
    until(lambda: home.service(name)["pid"] not in {old_pid, None})
    until(lambda: home.service(name)["healthy"])


def stop(running: subprocess.Popen[str], home: Checkout, number: signal.Signals = signal.SIGTERM) -> str:
    """Stop the supervisor. Returns its output; nothing may be left."""
    running.send_signal(number)
    out, text = running.communicate(timeout=60)
    assert (running.returncode, out) == (0, ""), text
    assert home.left_behind() == []
    return text


def pids_of(home: Checkout) -> set[int]:
    return {service["pid"] for service in home.status()["services"]}


def lives(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def write(home: Checkout) -> None:
    database, _ = home.addresses()
    known = home.credentials()
    with psycopg.connect(database, user="postgres", password=known["postgres_admin_password"]) as session:
        session.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 42 AS answer; GRANT SELECT ON kept TO fleet")


def data_is_intact(home: Checkout) -> bool:
    database, broker = home.addresses()
    with psycopg.connect(database) as session, redis.Redis.from_url(broker) as client:
        return session.execute("SELECT answer FROM kept").fetchone() == (42,) and bool(client.ping())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_all_services_in_order(home: Checkout, number: signal.Signals) -> None:
    text = stop(up(home), home, number)
    assert [line for line in text.splitlines() if line.endswith("stopping")] == [
        "valkey: stopping",
        "postgres: stopping",
    ]


def test_the_next_start_repairs_an_interrupted_creation_of_the_cluster() -> None:
    with checkout(empty=True) as home:
        draft = home.root / "private" / "postgres.new"
        running = home.start("fleet_services", "up")
        until(draft.exists)
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=60)
        assert running.returncode == 130
        assert home.left_behind() == []
        shutil.rmtree(home.root / "private" / "postgres", ignore_errors=True)
        running = home.start("fleet_services", "up")
        until(draft.exists)
        running.kill()
        running.communicate(timeout=60)
        next_supervisor = up(home)
        write(home)
        assert data_is_intact(home)
        stop(next_supervisor, home)


def test_a_full_disk_at_the_first_start_is_reported_as_the_cause() -> None:
    with checkout(empty=True) as home:
        small = f"mount -t tmpfs -o size=20m none {home.root} && exec {sys.executable} manage.py fleet_services up"
        result = subprocess.run(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", small],
            cwd=CHECKOUT, env=home.env, capture_output=True, text=True, timeout=40, check=False,
        )  # fmt: skip
        if "unshare" in result.stderr:
            pytest.skip(f"this host refuses namespaces: {result.stderr}")
        assert result.returncode == 1
        *_, failed, ended, _ = result.stderr.splitlines()
        assert failed.startswith("postgres: failed: initdb could not prepare ")
        assert "No space left on device" in failed
        assert "Check the disk's free space" in failed
        assert ended == "postgres could not be started; stopping the other services."
        assert result.stderr.count("restarting it") <= 1  # the first write is cut short before one finds no space


def test_killed_services_are_restarted_without_loss(home: Checkout) -> None:
    running = up(home)
    write(home)
    addresses = home.addresses()
    for name in ("postgres", "valkey"):
        kill_until_healthy_again(home, name)
        assert home.service(name)["restarts"] >= 1
    assert home.addresses() == addresses
    assert data_is_intact(home)
    messages = [event["message"] for event in home.status()["events"]]
    assert any("postgres is being restarted: it was killed by SIGKILL" in message for message in messages), messages
    assert any("valkey is being restarted: it was killed by SIGKILL" in message for message in messages), messages
    stop(running, home)


def test_killing_the_supervisor_ends_its_services_and_the_next_loses_nothing(home: Checkout) -> None:
    running = up(home)
    write(home)
    first = pids_of(home)
    running.kill()
    running.communicate(timeout=60)
    until(lambda: not any(psutil.pid_exists(pid) for pid in first))

    with subprocess.Popen(
        ["sleep", "600"]
    ) as stranger:  # simulates a process that reuses the pid of Postgres after a reboot
        (home.root / "private" / "postgres" / "postmaster.pid").write_text(f"{stranger.pid}\n")
        running = up(home)
        assert stranger.poll() is None
        stranger.kill()
    assert data_is_intact(home)

    second = pids_of(home)
    for pid in second:
        os.kill(pid, signal.SIGSTOP)  # so that they do not get the signal for the death of their parent
    running.kill()
    running.communicate(timeout=60)
    assert all(psutil.pid_exists(pid) for pid in second)
    running = up(home)
    assert not any(lives(pid) for pid in second), [psutil.Process(pid).status() for pid in second if lives(pid)]
    assert data_is_intact(home)
    assert "postgres: stopping the process that an earlier supervisor left" in stop(running, home)


def test_down_ends_processes_that_a_killed_supervisor_left(home: Checkout) -> None:
    running = up(home)
    remaining_pids = pids_of(home)
    for pid in remaining_pids:
        os.kill(pid, signal.SIGSTOP)  # so that they do not get the signal for the death of their parent
    running.kill()
    running.communicate(timeout=60)
    result = home.manage("fleet_down", "--json")
    assert json.loads(result.stdout) == {"stopped": True}
    for name in ("postgres", "valkey"):
        assert f"{name}: stopping the process that an earlier supervisor left\n" in result.stderr
    assert not any(lives(pid) for pid in remaining_pids)
    assert home.left_behind() == []
    assert json.loads(home.manage("fleet_down", "--json").stdout) == {"stopped": False}


def test_an_orphan_is_ended_with_its_descendants(tmp_path: Path) -> None:
    stubborn = (
        "import os, signal, time; os.setsid(); signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print(os.getpid(), flush=True); time.sleep(600)"
    )
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {stubborn!r}]).wait()"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as orphan:
        assert orphan.stdout is not None
        child = int(orphan.stdout.readline())
        home = Home(tmp_path)
        home.create_folders()
        children.ChildRegistry(home).add(name="node", pid=orphan.pid, stop_signal=signal.SIGTERM, grace_s=0.5)
        assert children.ChildRegistry(home).end_orphans(print) == ["node"]
        assert orphan.wait(60) == -signal.SIGTERM
    assert not lives(child)
    assert children.ChildRegistry(home).end_orphans(print) == []


def test_thresholds_on_response_time_memory_and_restarts_raise_events() -> None:
    low = {"FLEET_ALERT_RESPONSE_S": "0.000001", "FLEET_ALERT_MEMORY_MB": "1", "FLEET_ALERT_RESTARTS": "1"}
    with checkout(env=low) as home:
        running = home.start("fleet_services", "up")
        home.until_ready()
        for _ in range(2):
            kill_until_healthy_again(home, "valkey")
        expected = {"service.slow", "service.large", "service.restarts"}
        until(lambda: expected <= {event["kind"] for event in home.status()["events"]})
        events = home.status()["events"]
        by_kind = {event["kind"]: event for event in events if event["service"] == "valkey"}
        assert by_kind["service.restarts"]["message"] == "valkey was restarted 2 times."
        assert by_kind["service.restarts"]["data"] == {"value": 2, "limit": 1}
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=60)


def test_two_homes_run_at_once_and_a_taken_port_is_replaced() -> None:
    on_ports = {"FLEET_EMBEDDED_SOCKETS": "no"}
    with checkout(env=on_ports) as item, checkout(env=on_ports) as other:
        running = [home.start("fleet_services", "up") for home in (item, other)]
        pids = [{service["pid"] for service in home.until_ready()["services"]} for home in (item, other)]
        assert not pids[0] & pids[1]
        assert not set(item.addresses()) & set(other.addresses())
        write(item)
        with psycopg.connect(other.addresses()[0]) as session:
            assert session.execute("SELECT to_regclass('kept')").fetchone() == (None,)
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.communicate(timeout=60)
        (item.root / "private" / "ports.json").write_text((other.root / "private" / "ports.json").read_text())
        running = [home.start("fleet_services", "up") for home in (other,)]
        other.until_ready()
        running += [item.start("fleet_services", "up")]  # the other home now has its ports
        item.until_ready()
        assert data_is_intact(item)
        assert not set(item.addresses()) & set(other.addresses())
        for process in running:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
        assert item.left_behind() == other.left_behind() == []
