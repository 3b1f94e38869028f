"""`fleet_services up|down|restart|status|logs`: their effects, and their output for people and programs."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator

import pytest

from fleet.services import logfiles
from tests.support.processes.supervised import Checkout, checkout
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("services")

STATUS = {"running", "kind", "provider", "pid", "ready", "stopping", "uptime_s", "services", "events"}
SERVICE = {
    "name", "state", "healthy", "pid", "uptime_s", "response_ms", "memory_bytes", "restarts", "error", "log",
}  # fmt: skip


@pytest.fixture(scope="module")
def home() -> Iterator[Checkout]:
    with checkout() as new_home:
        yield new_home


@pytest.fixture(scope="module")
def running(home: Checkout) -> Iterator[Checkout]:
    home.manage("fleet_services", "up", "--detach", "--json")
    yield home
    home.manage("fleet_services", "down")


def test_without_services_each_command_says_what_to_do(home: Checkout) -> None:
    result = home.manage("fleet_services", "status", check=False)
    assert (result.returncode, result.stdout.startswith("Nothing is running here.")) == (1, True)
    assert json.loads(home.manage("fleet_services", "down", "--json").stdout) == {"stopped": False}
    refusal = home.manage("fleet_services", "restart", check=False)
    assert refusal.returncode == 1
    assert "manage.py fleet_up --detach" in refusal.stderr


def test_up_in_the_background_is_idempotent_and_shows_the_status(running: Checkout) -> None:
    second_result = running.manage("fleet_services", "up", "--detach", "--json")
    status = json.loads(second_result.stdout)
    assert set(status) == STATUS
    assert all(set(service) == SERVICE for service in status["services"])
    assert (status["kind"], status["provider"], status["ready"]) == ("services", "embedded", True)
    assert "The services are already running." in second_result.stderr


def test_status_has_health_uptime_response_time_and_memory_for_people_and_programs(running: Checkout) -> None:
    document = running.json("fleet_services", "status")
    for service in document["services"]:
        assert service["state"] == "healthy"
        assert service["uptime_s"] >= 0
        assert 0 < service["response_ms"] < 10_000
        assert service["memory_bytes"] > 1_000_000
    text = running.manage("fleet_services", "status").stdout
    assert all(word in text for word in ("NAME", "RESPONSE", "MEMORY", "RESTARTS", "postgres", "valkey"))
    item = running.json("fleet_services", "status", "valkey")
    assert [service["name"] for service in item["services"]] == ["valkey"]
    result = running.manage("fleet_services", "status", "redis", check=False)
    assert "The services are: postgres, valkey." in result.stderr


def test_restart_of_one_leaves_the_other_alone_and_an_unknown_one_is_refused(running: Checkout) -> None:
    before = {name: running.service(name)["pid"] for name in ("postgres", "valkey")}
    after = json.loads(running.manage("fleet_services", "restart", "valkey", "--json").stdout)
    pids = {service["name"]: service["pid"] for service in after["services"]}
    assert pids["postgres"] == before["postgres"]
    assert pids["valkey"] not in {before["valkey"], None}
    assert all(service["healthy"] and service["restarts"] == 0 for service in after["services"])
    result = running.manage("fleet_services", "restart", "redis", check=False)
    assert result.returncode == 1
    assert "No service is called 'redis'. The services are: postgres, valkey." in result.stderr


def test_logs_are_shown_by_name_and_number_and_as_json_lines(running: Checkout) -> None:
    assert "ready to accept connections" in running.manage("fleet_services", "logs", "postgres").stdout
    all_lines = running.manage("fleet_services", "logs", "-n", "1000").stdout.splitlines()
    assert {line.split(" | ")[0] for line in all_lines} >= {"postgres", "supervisor", "valkey"}
    assert running.manage("fleet_services", "logs", "-n", "3").stdout.splitlines() == all_lines[-3:]
    times = [at for line in all_lines if (at := logfiles.written_at(line.partition(" | ")[2]))]
    assert len(times) > 10
    assert times == sorted(times)
    lines = [
        json.loads(line) for line in running.manage("fleet_services", "logs", "-n", "1", "--json").stdout.splitlines()
    ]
    assert all(set(line) == {"service", "line"} for line in lines)
    result = running.manage("fleet_services", "logs", "redis", check=False)
    assert result.returncode == 1
    assert "postgres" in result.stderr


def test_an_empty_log_is_reported(running: Checkout) -> None:
    (running.root / "private" / "logs" / "silent.log").touch()
    result = running.manage("fleet_services", "logs", "silent")
    assert (result.stdout, result.stderr) == ("", "silent has logged nothing.\n")


@pytest.mark.parametrize("lines", ["-1", "x", "1e3"])
def test_an_invalid_number_of_lines_is_wrong_usage(home: Checkout, lines: str) -> None:
    result = home.manage("fleet_services", "logs", "-n", lines, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert "is not a whole number" in result.stderr


def test_followed_logs_show_what_is_written_and_end_with_ctrl_c(running: Checkout) -> None:
    log = running.root / "private" / "logs" / "valkey.log"
    process = running.start("fleet_services", "logs", "-f", "-n", "1", "valkey")
    assert process.stdout is not None
    assert process.stdout.readline()  # the last line written before
    with log.open("a") as file:
        file.write("a line that ")
        file.flush()
        file.write("is whole now\n")
    assert process.stdout.readline() == "a line that is whole now\n"
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in text


def test_logs_end_silently_when_their_pipe_closes(running: Checkout) -> None:
    with (running.root / "private" / "logs" / "valkey.log").open("a") as file:
        file.write("long\n" * 50_000)
    process = running.start("fleet_services", "logs", "-n", "50000", "valkey")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(60) == 141


def test_concurrent_starts_and_stops_leave_one_supervisor() -> None:
    with checkout() as home:
        both = [home.start("fleet_services", "up", "--detach") for _ in range(2)]
        for item in both:
            _, text = item.communicate(timeout=60)
            assert item.returncode == 0, text
        assert len([p for p in home.processes() if p.name() == "valkey-server"]) == 1
        down = home.start("fleet_services", "down")
        until(lambda: home.status().get("stopping") or not home.status()["running"])
        home.manage("fleet_services", "up", "--detach")  # waits until the other has ended, then starts its own
        assert down.communicate(timeout=60) is not None
        assert home.status()["ready"]
        assert json.loads(home.manage("fleet_down", "--json").stdout) == {"stopped": True}
        assert home.left_behind() == []


def test_fleet_up_is_refused_while_only_services_run(running: Checkout) -> None:
    result = running.manage("fleet_up", check=False)
    assert result.returncode == 1
    assert "fleet_services down" in result.stderr


def test_services_stop_even_if_their_terminal_is_gone(home: Checkout) -> None:
    with checkout() as other:
        running = other.start("fleet_services", "up", stdout=subprocess.DEVNULL)
        assert running.stderr is not None
        running.stderr.close()
        other.until_ready()
        until(lambda: other.status()["uptime_s"] > 3)
        assert other.status()["ready"]
        running.send_signal(signal.SIGHUP)
        assert running.wait(30) == 0
        assert other.left_behind() == []


def test_with_nohup_it_survives_its_terminal_and_stops_at_sigterm() -> None:
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with checkout() as other:
        running = other.start("fleet_services", "up", stdout=subprocess.DEVNULL, preexec_fn=ignore)
        assert running.stderr is not None
        running.stderr.close()
        other.until_ready()
        running.send_signal(signal.SIGHUP)
        other.manage("fleet_services", "restart", "valkey")  # it still answers
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
        assert other.left_behind() == []
