"""A running fleet from the user's point of view: commands, their JSON, and missions that survive faults."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance.conftest import Fleet
from tests.support.processes import hosts
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("fleet")


def processes_with(text: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if any(text in word for word in process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_mission_passes_results_on_and_its_json_has_the_documented_shape(fleet: Fleet) -> None:
    mission = fleet.launch(
        {
            "inputs": {"who": {"default": "world"}},
            "sorties": {
                "count": {"agent": "backend", "run": "echo '{\"n\": 3}' > $FLEET_RESULT; echo counted"},
                "say": {
                    "agent": "frontend", "needs": ["count"], "env": {"N": "{{ needs.count.result.n }}"},
                    "run": 'echo "$FLEET_INPUT_WHO $N" > said.txt', "cwd": str(fleet.home), "outputs": ["said.txt"],
                    "verify": "grep -q 'moon 3' said.txt",
                },
            },
        },
        "--param", "who=moon",
    )  # fmt: skip
    document = fleet.wait(mission)
    assert document["state"] == "succeeded", document
    assert document["sorties"]["total"] == document["sorties"]["succeeded"] == 2
    count, say = document["items"]
    assert set(count) >= {
        "id", "key", "agent_type", "state", "attempt", "needs", "ready_at", "started_at", "finished_at", "result", "error",
    }  # fmt: skip
    assert count["result"] == {"n": 3}
    assert say["needs"] == ["count"]
    assert [artifact["path"] for artifact in document["artifacts"]] == ["said.txt"]
    assert fleet.manage("fleet_mission", "logs", mission, "count").stdout == "counted\n"
    fleet.manage("fleet_mission", "artifacts", mission, "--save", str(fleet.home / "saved"))
    assert (fleet.home / "saved" / "say" / "said.txt").read_text() == "moon 3\n"


def test_status_names_the_addresses_agents_and_queues(fleet: Fleet) -> None:
    status = fleet.json("fleet_status")
    assert set(status["urls"]) == {"api", "admin", "flower", "metrics"}
    assert status["running"] is True
    assert {queue["type"] for queue in status["queues"]} >= {"backend", "testing"}
    assert "The fleet is running." in fleet.manage("fleet_status").stdout
    agents = fleet.json("fleet_agents", "list")
    assert all(set(agent) >= {"id", "type", "node", "pid", "state", "sorties"} for agent in agents)
    assert all(psutil.pid_exists(agent["pid"]) for agent in agents)


def test_a_bad_plan_is_refused_with_every_problem_and_exit_code_two(fleet: Fleet) -> None:
    path = fleet.home / "bad.yaml"
    path.write_text("mission: Bad\nsorties:\n  a: {agent: nobody, run: x}\n  b: {agent: backend, needs: [c], run: x}\n")
    result = fleet.manage("fleet_mission", "run", str(path), check=False)
    assert result.returncode == 2
    assert "line 3" in result.stderr
    assert "line 4" in result.stderr


def test_a_failed_mission_exits_with_five_and_the_reason(fleet: Fleet) -> None:
    path = fleet.home / "failing.json"
    path.write_text(
        json.dumps({"mission": "Fails", "sorties": {"no": {"agent": "backend", "run": "echo why >&2; exit 3"}}})
    )
    result = fleet.manage("fleet_mission", "run", str(path), check=False)
    assert result.returncode == 5
    assert "exit code 3" in result.stderr
    assert "why" in result.stderr


def test_a_sortie_whose_agent_is_killed_ends_once_in_a_second_attempt(fleet: Fleet) -> None:
    flag = fleet.home / "killed-once"
    mission = fleet.launch(
        {"sorties": {"work": {"agent": "backend", "run": f"test -e '{flag}' || sleep 600; echo second"}}}
    )
    agent = until(lambda: next((a for a in fleet.json("fleet_agents", "list") if a["sorties"] == ["work"]), None))
    flag.touch()
    os.kill(agent["pid"], signal.SIGKILL)
    document = fleet.wait(mission)
    assert document["state"] == "succeeded", document
    assert document["items"][0]["attempt"] == 2
    assert document["items"][0]["tries"] == 0
    until(lambda: fleet.agent("backend")["state"] == "idle")


def test_a_stopped_agent_loses_its_lease_and_its_late_outcome_is_refused(fleet: Fleet) -> None:
    flag = fleet.home / "stopped-once"
    say = "echo '\"'$FLEET_ATTEMPT'\"' > $FLEET_RESULT"
    mission = fleet.launch(
        {"sorties": {"work": {"agent": "testing", "run": f"test -e '{flag}' || sleep 8; {say}"}}}
    )  # fmt: skip
    agent = until(lambda: next((a for a in fleet.json("fleet_agents", "list") if a["sorties"] == ["work"]), None))
    hosts.halt(agent["pid"])
    flag.touch()
    until(lambda: fleet.json("fleet_mission", "show", mission)["items"][0]["state"] in {"queued", "running"})
    until(lambda: all(a["id"] != agent["id"] for a in fleet.json("fleet_agents", "list")))
    os.kill(agent["pid"], signal.SIGCONT)
    document = fleet.wait(mission)
    assert document["state"] == "succeeded", document
    assert document["items"][0]["result"].endswith("/2")
    until(lambda: fleet.agent("testing")["state"] == "idle")


def test_cancel_ends_the_whole_process_tree(fleet: Fleet) -> None:
    mission = fleet.launch(
        {"sorties": {"work": {"agent": "security", "run": "trap '' TERM; setsid sleep 7351 & sleep 7352; sleep 7353"}}}
    )
    until(lambda: processes_with("7351") and processes_with("7352"))
    fleet.manage("fleet_mission", "cancel", mission)
    until(lambda: not processes_with("7351") and not processes_with("7352"))
    document = fleet.wait(mission)
    assert document["state"] == "cancelled"
    assert document["items"][0]["state"] == "cancelled"


def test_a_flush_and_a_restart_of_redis_delay_a_mission_and_lose_nothing(fleet: Fleet) -> None:
    chain: dict[str, dict[str, Any]] = {
        f"s{n}": {"agent": "backend" if n % 2 else "frontend", "driver": "scripted", "with": {"seconds": 0.2}}
        for n in range(20)
    }
    for n in range(1, 20):
        chain[f"s{n}"]["needs"] = [f"s{n - 1}"]
    mission = fleet.launch({"sorties": chain})
    fleet.manage("fleet_services", "restart", "valkey")
    document = fleet.wait(mission)
    assert document["sorties"]["succeeded"] == 20, document


def test_a_restart_of_postgres_delays_a_mission_and_loses_nothing(fleet: Fleet) -> None:
    sorties = {f"s{n}": {"agent": "backend", "driver": "scripted", "with": {"seconds": 0.3}} for n in range(12)}
    mission = fleet.launch({"sorties": sorties})
    fleet.manage("fleet_services", "restart", "postgres")
    until(lambda: fleet.manage("fleet_status", check=False).returncode == 0)
    document = fleet.wait(mission)
    assert document["sorties"]["succeeded"] == 12, document
    assert all(item["tries"] == 0 for item in document["items"])


def test_a_paused_mission_starts_nothing_until_it_is_resumed(fleet: Fleet) -> None:
    flag = fleet.home / "go"
    mission = fleet.launch(
        {
            "sorties": {
                "first": {"agent": "backend", "driver": "scripted", "with": {"hold_until": str(flag)}},
                "second": {"agent": "backend", "needs": ["first"], "run": "true"},
            }
        }
    )
    until(lambda: fleet.json("fleet_mission", "show", mission)["items"][0]["state"] == "running")
    fleet.manage("fleet_mission", "pause", mission)
    flag.touch()
    until(lambda: fleet.json("fleet_mission", "show", mission)["items"][0]["state"] == "succeeded")
    paused = fleet.json("fleet_mission", "show", mission)
    assert paused["state"] == "paused"
    assert paused["items"][1]["state"] == "ready"
    assert "to be resumed" in paused["items"][1]["waits_for"]
    fleet.manage("fleet_mission", "resume", mission)
    assert fleet.wait(mission)["state"] == "succeeded"


def test_no_credential_is_visible_in_the_process_list(fleet: Fleet) -> None:
    secrets = set(json.loads((Path(fleet.env["FLEET_HOME"]) / "private" / "credentials.json").read_text()).values())
    command_lines = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command_lines.append(" ".join(process.cmdline()))
    assert secrets
    assert any("fleet_control" in words for words in command_lines)
    for words in command_lines:
        assert not any(secret in words for secret in secrets), words.split()[:2]


def test_work_cannot_read_the_fleets_credentials(fleet: Fleet) -> None:
    private = Path(fleet.env["FLEET_HOME"]) / "private"
    mission = fleet.launch(
        {
            "sorties": {
                "spy": {
                    "agent": "backend",
                    "run": f"cat '{private}/credentials.json' && exit 9; ls -A '{private}' | wc -l",
                }
            }
        }
    )
    document = fleet.wait(mission)
    assert document["items"][0]["result"]["output"].strip() == "0", document


def test_the_doctor_passes_a_running_fleet_and_reports_a_problem_with_its_remedy(fleet: Fleet) -> None:
    assert all(finding["healthy"] for finding in fleet.json("fleet_doctor"))
    credentials = Path(fleet.env["FLEET_HOME"]) / "private" / "credentials.json"
    credentials.chmod(0o644)
    try:
        result = fleet.manage("fleet_doctor", check=False)
    finally:
        credentials.chmod(0o600)
    assert result.returncode == 1
    assert f"Run: chmod 600 {shlex.quote(str(credentials))}" in result.stdout
