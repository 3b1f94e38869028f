"""Postgres and Valkey under `fleet_services up`: whoever is killed, nothing is lost; whoever is stopped, nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import psutil
import psycopg
import pytest
import redis

from tests.support.supervised import Checkout, checkout, until

pytestmark = pytest.mark.xdist_group("services")


@pytest.fixture
def home() -> Iterator[Checkout]:
    with checkout(name="fleet services ") as made:  # a path with a space, too
        yield made


def write(home: Checkout) -> None:
    database, _ = home.urls()
    with psycopg.connect(database) as session:
        session.execute("CREATE TABLE kept AS SELECT 42 AS answer")


def kept(home: Checkout) -> bool:
    database, broker = home.urls()
    with psycopg.connect(database) as session, redis.Redis.from_url(broker) as client:
        return session.execute("SELECT answer FROM kept").fetchone() == (42,) and bool(client.ping())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_all_and_leaves_nothing_behind(home: Checkout, number: signal.Signals) -> None:
    running = home.start("fleet_services", "up")
    home.until_ready()
    running.send_signal(number)
    out, said = running.communicate(timeout=30)
    assert running.returncode == 0, said
    assert out == ""
    assert [line for line in said.splitlines() if line.endswith("stopping")] == [
        "valkey: stopping",
        "postgres: stopping",
    ]
    assert home.left_behind() == []


def test_a_second_signal_does_not_wait_and_leaves_nothing_behind_either(home: Checkout) -> None:
    running = home.start("fleet_services", "up")
    home.until_ready()
    os.kill(int(home.service("valkey")["pid"]), signal.SIGSTOP)
    running.send_signal(signal.SIGINT)
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=30)
    assert home.left_behind() == []


def test_a_stop_while_the_cluster_is_made_leaves_nothing_and_the_next_start_makes_it(home: Checkout) -> None:
    running = home.start("fleet_services", "up")
    until(lambda: (home.root / "private" / "postgres.new").exists(), within_s=20)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=30)
    assert running.returncode == 130
    assert home.left_behind() == []
    again = home.start("fleet_services", "up")
    home.until_ready()
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=30)


def test_kill_9_while_the_cluster_is_made_is_made_good_by_the_next_start(home: Checkout) -> None:
    running = home.start("fleet_services", "up")
    until(lambda: (home.root / "private" / "postgres.new").exists(), within_s=20)
    running.kill()
    running.communicate(timeout=30)
    again = home.start("fleet_services", "up")
    home.until_ready()
    write(home)
    assert kept(home)
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=30)
    assert home.left_behind() == []


def test_kill_9_of_each_service_is_made_good_without_a_loss(home: Checkout) -> None:
    running = home.start("fleet_services", "up")
    home.until_ready()
    write(home)
    ports = home.urls()
    for name in ("postgres", "valkey"):
        killed = home.service(name)["pid"]
        os.kill(killed, signal.SIGKILL)
        until(lambda name=name, killed=killed: home.service(name)["pid"] not in {killed, None})
        until(lambda name=name: home.service(name)["healthy"])
        assert home.service(name)["restarts"] >= 1
    assert home.urls() == ports
    assert kept(home)
    messages = [event["message"] for event in home.status()["events"]]
    assert any("postgres is started again: it was killed by SIGKILL" in message for message in messages), messages
    assert any("valkey is started again: it was killed by SIGKILL" in message for message in messages), messages
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=30)
    assert home.left_behind() == []


def test_kill_9_of_the_supervisor_takes_its_children_along_and_its_successor_loses_nothing(home: Checkout) -> None:
    running = home.start("fleet_services", "up")
    pids = [service["pid"] for service in home.until_ready()["services"]]
    write(home)
    running.kill()
    running.communicate(timeout=30)
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    again = home.start("fleet_services", "up")
    assert not {service["pid"] for service in home.until_ready()["services"]} & set(pids)
    assert kept(home)
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=30)
    assert home.left_behind() == []


def test_orphans_that_hear_nobody_are_stopped_by_the_next_start(home: Checkout) -> None:
    running = home.start("fleet_services", "up")
    pids = [service["pid"] for service in home.until_ready()["services"]]
    write(home)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)  # the kernel's word that their parent is dead waits
    running.kill()
    running.communicate(timeout=30)
    assert all(psutil.pid_exists(pid) for pid in pids)
    again = home.start("fleet_services", "up")
    home.until_ready()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert kept(home)
    again.send_signal(signal.SIGTERM)
    _, said = again.communicate(timeout=30)
    assert "postgres: stopping what an earlier supervisor left" in said
    assert home.left_behind() == []


def test_a_pid_file_that_names_somebody_else_is_no_obstacle(home: Checkout) -> None:
    running = home.start("fleet_services", "up")
    home.until_ready()
    running.kill()
    running.communicate(timeout=30)
    until(lambda: not home.processes())
    with subprocess.Popen(["sleep", "60"]) as stranger:
        (home.root / "private" / "postgres" / "postmaster.pid").write_text(f"{stranger.pid}\n")
        again = home.start("fleet_services", "up")
        home.until_ready()
        assert stranger.poll() is None
        stranger.kill()
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=30)
    assert home.left_behind() == []


def test_thresholds_on_response_time_memory_and_restarts_raise_events() -> None:
    low = {"FLEET_ALERT_RESPONSE_S": "0.000001", "FLEET_ALERT_MEMORY_MB": "1", "FLEET_ALERT_RESTARTS": "1"}
    with checkout(env=low) as home:
        running = home.start("fleet_services", "up")
        home.until_ready()
        for _ in range(2):
            killed = home.service("valkey")["pid"]
            os.kill(killed, signal.SIGKILL)
            until(lambda killed=killed: home.service("valkey")["pid"] not in {killed, None})
            until(lambda: home.service("valkey")["healthy"])
        wanted = {"service.slow", "service.large", "service.restarts"}
        until(lambda: wanted <= {event["kind"] for event in home.status()["events"]})
        events = home.status()["events"]
        by_kind = {event["kind"]: event for event in events if event["service"] == "valkey"}
        assert by_kind["service.restarts"]["message"] == "valkey was restarted 2 times."
        assert by_kind["service.restarts"]["data"] == {"value": 2, "limit": 1}
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=30)


def test_two_homes_at_once_and_a_port_that_is_taken_meanwhile() -> None:
    with checkout() as one, checkout() as other:
        running = [home.start("fleet_services", "up") for home in (one, other)]
        pids = [{service["pid"] for service in home.until_ready()["services"]} for home in (one, other)]
        assert not pids[0] & pids[1]
        assert not set(one.urls()) & set(other.urls())
        write(one)
        with psycopg.connect(other.urls()[0]) as session:
            assert session.execute("SELECT to_regclass('kept')").fetchone() == (None,)
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.communicate(timeout=30)
        (one.root / "private" / "ports.json").write_text((other.root / "private" / "ports.json").read_text())
        running = [home.start("fleet_services", "up") for home in (other,)]
        other.until_ready()
        running += [one.start("fleet_services", "up")]  # its ports are now the other's
        one.until_ready()
        assert kept(one)
        assert not set(one.urls()) & set(other.urls())
        for process in running:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
        assert one.left_behind() == other.left_behind() == []
