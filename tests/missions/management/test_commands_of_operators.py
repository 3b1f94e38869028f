"""fleet_status, fleet_agents, fleet_doctor and fleet_cleanup: JSON and exit codes, with and without a running fleet."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.utils import timezone

from agents import operations as agents
from agents.models import Agent, Node
from fleet import ids
from fleet.config.home import Home
from fleet.postgres import roles
from fleet.services.supervision import children, lock
from missions.models import Mission
from tests.support import fleet, web
from tests.support.console import manage
from tests.support.paths import CHECKOUT

services = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def run_without_fleet(tmp_path: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A command in a folder where no fleet was ever started."""
    environment = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
    return subprocess.run(
        [sys.executable, str(CHECKOUT / "manage.py"), *arguments],
        env={**environment, "FLEET_HOME": str(tmp_path / "a home"), **env},
        capture_output=True, text=True, timeout=30, check=False, cwd=tmp_path,
    )  # fmt: skip


# ── While it runs ────────────────────────────────────────────────────────────────────────────────────────────────────


@services
def test_status_has_the_documented_shape() -> None:
    fleet.launch({"one": {}})
    engine = fleet.engine()
    result = manage("fleet_status", "--json")
    engine.stop(within_s=5)
    assert result.code == 0
    status = result.json
    assert set(status) == {
        "running", "services", "left", "urls", "nodes", "cordoned", "agents", "missions", "queues", "schedules", "alerts",
    }  # fmt: skip
    assert set(status["urls"]) == {"api", "admin", "flower", "metrics"}
    assert status["missions"] == {"running": 1}
    assert status["agents"] == {"idle": 1}
    backend = next(queue for queue in status["queues"] if queue["type"] == "backend")
    assert set(backend) == {"type", "depth", "oldest_wait_s"}
    assert backend["depth"] == 1
    assert "1 queued" in manage("fleet_status").out


@services
def test_agents_are_listed_with_their_sorties() -> None:
    engine = fleet.engine("testing")
    (agent,) = manage("fleet_agents", "list", "--json").json
    assert set(agent) == {
        "id", "name", "type", "node", "pid", "state", "order", "concurrency", "sorties", "settled", "crashes",
        "heartbeat_age_s", "age_s", "reason",
    }  # fmt: skip
    assert (agent["type"], agent["pid"], agent["state"], agent["sorties"]) == ("testing", 1, "idle", [])
    assert agent["id"].startswith("agt_")
    assert agent["id"] in manage("fleet_agents", "list").out
    engine.stop(within_s=5)


@services
def test_without_agents_the_list_is_empty_with_a_hint() -> None:
    result = manage("fleet_agents", "list")
    assert (result.code, result.out) == (0, "")
    assert "fleet_up" in result.err
    assert manage("fleet_agents", "list", "--json").json == []


@services
def test_the_columns_of_nodes_stay_aligned_when_one_is_cordoned() -> None:
    Node.objects.all().delete()
    for name, cordoned in (("one", False), ("two", True)):
        Node.objects.create(name=name, boot=str(ids.new()), pid=1, start_time=1.0, up=True, cordoned=cordoned)
    nodes = [line for line in manage("fleet_agents", "status").out.splitlines() if "of 16 agents" in line]
    assert len({line.index(" of 16 agents") for line in nodes}) == 1, nodes


@services
def test_the_types_have_the_documented_shape() -> None:
    types = manage("fleet_agents", "types", "--json").json
    assert {item["name"] for item in types} >= {
        "frontend",
        "backend",
        "testing",
        "documentation",
        "security",
        "performance",
    }
    assert all(
        set(item)
        == {
            *(
                "name",
                "description",
                "queue",
                "enabled",
                "agents",
                "max_agents",
                "concurrency",
                "max_running",
                "autoscale",
            ),
            *(
                "memory_mb",
                "disk_mb",
                "max_duration_s",
                "alert_silence_s",
                "network",
                "external",
                "accepts_external",
                "takes_prompt",
                "live",
            ),
        }
        for item in types
    )


@services
def test_the_doctor_finds_types_without_agents_and_exits_with_1() -> None:
    agents.join(name="test", pid=1, start_time=0.0)
    engine = fleet.engine("backend")
    result = manage("fleet_doctor", "--json")
    engine.stop(within_s=5)
    findings = {item["name"]: item for item in result.json}
    assert all(set(item) == {"name", "healthy", "message", "remedy"} for item in result.json)
    assert findings["postgres"]["healthy"]
    assert findings["redis"]["healthy"]
    assert findings["backend"]["healthy"]
    assert (findings["testing"]["healthy"], findings["testing"]["message"]) == (False, "has no agent")
    assert findings["testing"]["remedy"] == "Start one: ./manage.py fleet_agents spawn testing"
    assert result.code == 1


@services
def test_the_doctor_reports_how_the_last_agent_ended_and_how_to_start_a_node() -> None:
    agents.join(name="test", pid=1, start_time=0.0)
    agent_id = ids.new()
    agents.register(agent=agent_id, agent_type="testing", node="test", pid=2, start_time=0.0)
    agents.end(agents=[agent_id], state=Agent.State.FAILED, reason="Its process ended with exit code 1.")

    def testing() -> tuple[str, str]:
        (found,) = [item for item in manage("fleet_doctor", "--json").json if item["name"] == "testing"]
        return found["message"], found["remedy"]

    assert testing() == (
        "has no agent; the last one failed: Its process ended with exit code 1.",
        "Start one: ./manage.py fleet_agents spawn testing",
    )
    Node.objects.update(up=False)
    assert testing() == ("has no agent", "Start it: ./manage.py fleet_up --detach")


@services
def test_cleanup_is_a_dry_run_without_yes() -> None:
    mission = web.ended_mission()
    Mission.objects.filter(id=mission.id).update(finished_at=timezone.now() - timedelta(days=40))
    counted = manage("fleet_cleanup", "--json")
    none = dict.fromkeys(
        ("events", "samples", "log_pieces", "ticks", "drafts", "sessions", "idempotency_keys", "copies"), 0
    )
    expected = {"missions": 1, **none, "unmerged": [], "dry_run": True}
    assert (counted.code, counted.json) == (0, counted.json | expected)
    assert set(counted.json) == {*expected, "scratch_folders", "mirrors", "kept"}  # other tests may have left folders
    assert manage("fleet_cleanup").err.endswith("This was a dry run. To clean up: ./manage.py fleet_cleanup --yes\n")
    assert manage("fleet_cleanup", "--days", "50", "--json").json["missions"] == 0
    assert manage("fleet_cleanup", "--yes", "--json").json["missions"] == 1
    assert not Mission.objects.exists()


@services
@pytest.mark.parametrize(
    "limit_arguments", [["--days", "-1"], ["--days", "99999999999"], ["--most", "x"], ["--most", "-1"]]
)
def test_invalid_limits_are_wrong_usage(limit_arguments: list[str]) -> None:
    result = manage("fleet_cleanup", *limit_arguments)
    assert result.code == 2
    assert "usage:" in result.err


@services
def test_a_database_of_another_version_is_reported_as_such() -> None:
    with roles.as_owner(), connection.cursor() as cursor:
        cursor.execute("ALTER TABLE missions_mission RENAME TO missions_later")
        try:
            result = manage("fleet_mission", "list")
        finally:
            connection.cursor().execute("ALTER TABLE missions_later RENAME TO missions_mission")
    assert result.code == 1
    assert result.err.startswith("The database has the tables of another version. Restart the fleet")


# ── While nothing runs ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("arguments", [("fleet_mission", "list"), ("fleet_cleanup", "--yes", "--json")])
def test_without_postgres_a_command_exits_with_1_and_a_hint(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = run_without_fleet(tmp_path, *arguments)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("The fleet is not running here. Start it: ")
    assert result.stderr.endswith("manage.py fleet_up --detach\n")


def test_without_postgres_the_hint_does_not_start_a_running_fleet(tmp_path: Path) -> None:
    with lock.hold(Home(tmp_path / "a home")):
        result = run_without_fleet(tmp_path, "fleet_mission", "list")
    assert (result.returncode, "fleet_up" in result.stderr) == (1, False)
    assert "Postgres does not answer (" in result.stderr
    assert result.stderr.endswith("manage.py fleet_services status\n")


def test_status_without_a_fleet_has_the_same_shape_and_an_error(tmp_path: Path) -> None:
    result = run_without_fleet(tmp_path, "fleet_status", "--json")
    status = json.loads(result.stdout)
    assert result.returncode == 1
    assert (status["running"], status["services"], status["queues"], status["nodes"]) == (False, [], [], [])
    assert set(status["urls"]) == {"api", "admin", "flower", "metrics"}
    assert status["error"].startswith("The fleet is not running here. Start it: ")


def test_a_home_without_permission_exits_with_4_and_the_reason(tmp_path: Path) -> None:
    unusable_home = Path("/sys/fleet")  # where not even root can create a folder
    try:
        unusable_home.mkdir()
    except PermissionError:
        result = run_without_fleet(tmp_path, "fleet_mission", "list", FLEET_HOME=str(unusable_home))
        assert result.returncode == 4, result.stderr
        assert result.stderr.startswith(f"You are not allowed to use {unusable_home} (")
    except OSError as error:
        pytest.skip(f"/sys is something else here: {error}")


@pytest.mark.parametrize("name", ["file", "file/home", "n" * 300])
def test_an_impossible_home_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ImproperlyConfigured, match="Set FLEET_HOME to another folder"):
        Home(tmp_path / name).create_folders()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user and still write to it")
@pytest.mark.parametrize("arguments", [("fleet_up", "--detach"), ("fleet_services", "up"), ("fleet_status",)])
def test_root_does_not_write_into_another_users_home(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    private = tmp_path / "a home" / "private"
    private.mkdir(parents=True)
    os.chown(private, 65534, 65534)
    result = run_without_fleet(tmp_path, *arguments)
    assert (result.returncode, result.stdout) == (4, "")
    assert result.stderr.startswith(f"You are not allowed to use {private} (it belongs to ")
    assert [path.name for path in (tmp_path / "a home").rglob("*")] == ["private"]


def test_processes_of_a_killed_supervisor_are_reported_until_they_are_stopped(tmp_path: Path) -> None:
    home = Home(tmp_path / "a home")
    home.create_folders()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as process:
        registry = children.ChildRegistry(home)
        registry.add(name="node", pid=process.pid, stop_signal=signal.SIGTERM, grace_s=5)
        for command in (("fleet_services", "status"), ("fleet_status",), ("fleet_doctor",)):
            document = run_without_fleet(tmp_path, *command)
            assert f"left these processes running: node (pid {process.pid})." in " ".join(document.stdout.split()), (
                document.stdout
            )
            assert "fleet_down" in document.stdout
            assert command != ("fleet_status",) or "fleet_up" not in document.stdout  # printed after it
        status = json.loads(run_without_fleet(tmp_path, "fleet_services", "status", "--json").stdout)
        assert status == {"running": False, "left": [{"name": "node", "pid": process.pid}]}
        assert (
            "node: stopping the process that an earlier supervisor left"
            in run_without_fleet(tmp_path, "fleet_down").stderr
        )
        assert process.wait(60) == -signal.SIGTERM
    assert run_without_fleet(tmp_path, "fleet_services", "status").stdout.startswith("Nothing is running here.")


def test_the_doctor_puts_a_full_stop_between_a_problem_and_its_remedy(tmp_path: Path) -> None:
    private = tmp_path / "a home" / "private"
    private.mkdir(parents=True, mode=0o755)
    result = run_without_fleet(tmp_path, "fleet_doctor")
    assert f"{private} has mode 0755. Run: chmod 700 '{private}'" in result.stdout


def test_the_doctor_says_that_the_fleet_is_not_running(tmp_path: Path) -> None:
    result = run_without_fleet(tmp_path, "fleet_doctor")
    assert (result.returncode, result.stderr) == (1, "")
    for name in ("postgres", "redis"):
        (line,) = [line for line in result.stdout.splitlines() if line.startswith(f"ERROR {name}")]
        assert "The fleet is not running here. Start it: " in line


def test_the_doctor_names_the_settings_of_servers_that_do_not_answer(tmp_path: Path) -> None:
    urls = {"DATABASE_URL": "postgres://fleet:x@127.0.0.1:1/fleet", "REDIS_URL": "redis://:x@127.0.0.1:1/0"}
    result = run_without_fleet(tmp_path, "fleet_doctor", "--json", **urls)
    remedies = {item["name"]: item["remedy"] for item in json.loads(result.stdout)}
    for name, setting in (("postgres", "DATABASE_URL"), ("redis", "REDIS_URL")):
        assert remedies[name] == f"Check {setting}, and that the server is running."


@pytest.mark.parametrize(
    ("version", "healthy", "remedy"),
    [
        ("git version 2.37.9", False, "Install git 2.38 or newer; missions with a workspace need it."),
        ("git version 2.38.0.windows.1", True, ""),
        ("git version 3.0", True, ""),
        ("nonsense", False, "Install git 2.38 or newer; workspaces and the sample need it."),
    ],
)
def test_the_doctor_says_whether_git_is_new_enough(tmp_path: Path, version: str, healthy: bool, remedy: str) -> None:
    program = tmp_path / "git"
    program.write_text(f"#!/bin/sh\necho '{version}'\n")
    program.chmod(0o755)
    result = run_without_fleet(tmp_path, "fleet_doctor", "--json", FLEET_PROGRAM_FOLDERS=str(tmp_path))
    (found,) = [finding for finding in json.loads(result.stdout) if finding["name"] == "git"]
    assert (found["healthy"], found["remedy"]) == (healthy, remedy)


def test_a_plan_can_be_validated_without_a_fleet(tmp_path: Path) -> None:
    good = run_without_fleet(tmp_path, "fleet_mission", "validate", str(CHECKOUT / "examples/repo_audit/audit.yaml"))
    assert (good.returncode, "The plan is valid" in good.stderr) == (0, True), good.stderr
    assert "the agent types are not checked" in good.stderr
    (tmp_path / "bad.yaml").write_text("mission: x\nsorties:\n  a: {agent: backend, run: ls, needs: [b]}\n")
    bad = run_without_fleet(tmp_path, "fleet_mission", "validate", str(tmp_path / "bad.yaml"))
    assert (bad.returncode, "line 3" in bad.stderr) == (2, True), bad.stderr
