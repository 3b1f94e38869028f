"""compose.yaml on a real podman: it comes up, runs the sample mission, survives crashes, scales, and leaves nothing.

`make test-containers` runs this; `make test` does not. The tests build on each other, in the order of the file.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator

import pytest

from fleet.config import ports
from tests.support.services import containers
from tests.support.services.containers import Project, podman
from tests.support.waiting import until

pytestmark = [pytest.mark.containers, pytest.mark.timeout(2400), pytest.mark.xdist_group("containers")]
REQUIRED = ("POSTGRES_PASSWORD", "POSTGRES_OWNER_PASSWORD", "REDIS_PASSWORD", "FLEET_SECRET_KEY", "FLOWER_PASSWORD")
START_S = 600  # for the whole fleet from scratch, on a busy host
FLEET_SERVICES = ("web", "control", "flower", "node")


@pytest.fixture(scope="module")
def project(pytestconfig: pytest.Config) -> Iterator[Project]:
    """Build and start the project. Prints the durations."""
    if why := containers.unusable():
        pytest.skip(why)
    containers.build()
    # Characters that must be escaped in URLs, SQL, shells and Valkey's configuration.
    new_project = Project(
        name=f"fleet-test-{secrets.token_hex(3)}",
        port=ports.find_free(),
        secrets={name: f"{name.lower()}-@:/#%'\"\\ {secrets.token_urlsafe(24)}" for name in REQUIRED},
    )
    try:
        started = time.monotonic()
        new_project.compose("up", "-d", timeout=600)
        until(new_project.is_ready, within_s=START_S)
        report(f"cold start, until /readyz: {time.monotonic() - started:.1f} s")
        until(lambda: live(new_project) == 6, within_s=180)
        report(f"until all agents were up:  {time.monotonic() - started:.1f} s")
        size = int(podman("image", "inspect", containers.FLEET, "--format", "{{.Size}}").stdout)
        base = int(podman("image", "inspect", containers.BASE, "--format", "{{.Size}}").stdout)
        report(f"image: {size / 1e6:.0f} MB, of which {base / 1e6:.0f} MB are the base")
        yield new_project
    finally:
        new_project.remove_replicas("node-backend")
        new_project.compose("--profile", "backend", "--profile", "tls", "down", "-v", check=False)


def report(line: str) -> None:
    with (containers.FOLDER / "report.txt").open("a") as file:
        file.write(f"{line}\n")
    containers.say(line)


def live(project: Project, *, type: str | None = None) -> int:
    """How many agents are idle or busy."""
    result = project.manage("fleet_agents", "list", "--json", check=False)
    agents = json.loads(result.stdout) if result.returncode == 0 else []
    return sum(agent["state"] in {"idle", "busy"} and type in {None, agent["type"]} for agent in agents)


@pytest.mark.parametrize("name", REQUIRED)
def test_without_a_secret_it_refuses_to_start_and_names_it(project: Project, name: str) -> None:
    result = project.compose("up", "-d", without=[name], check=False)
    assert result.returncode != 0
    assert f"set {name}, or {name}_FILE" in result.stdout + result.stderr


@pytest.mark.parametrize("service", ["postgres", "valkey", *FLEET_SERVICES])
def test_every_container_is_confined(project: Project, service: str) -> None:
    status = project.execute(service, "sh", "-c", "cat /proc/1/status; id -u; ! touch /usr/x 2>/dev/null").stdout
    values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {values[name] for name in ("CapPrm", "CapEff", "CapBnd")} == {"0000000000000000"}
    assert (values["NoNewPrivs"], values["Seccomp"]) == ("1", "2")
    assert int(status.splitlines()[-1]) != 0


@pytest.mark.parametrize("service", FLEET_SERVICES)
def test_the_health_check_of_each_container_passes(project: Project, service: str) -> None:
    name = project.container(service)
    until(
        lambda: podman("healthcheck", "run", name, check=False).returncode == 0,
        within_s=30,
        otherwise=lambda: project.log(service)[-2000:],
    )


def test_the_sandbox_works_in_the_node_without_a_capability(project: Project) -> None:
    result = project.execute("node", "./manage.py", "fleet_doctor", check=False).stdout
    assert "ok    sandbox" in result, result


def test_without_an_unmasked_proc_the_node_refuses_to_run_sorties(project: Project) -> None:
    probe = "from agents.confinement import probe; print(probe.sandbox_problem())"
    result = podman(
        "run", "--rm", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--entrypoint", "python",
        containers.FLEET, "-c", probe,
    ).stdout  # fmt: skip
    assert result.startswith("This host does not allow the sandbox"), result
    assert "systempaths=unconfined" in result


def test_only_migrate_has_the_owners_password(project: Project) -> None:
    owner = project.environment["POSTGRES_OWNER_PASSWORD"]
    for service in FLEET_SERVICES:
        variables = project.inspect(service)["Config"]["Env"]
        assert not any(owner in variable for variable in variables)
        assert any(project.environment["POSTGRES_PASSWORD"] in variable for variable in variables)
    assert "ok    audit trail" in project.manage("fleet_doctor", check=False).stdout
    assert project.manage("fleet_audit", "verify").returncode == 0


def test_nodes_do_not_have_the_private_folder_of_the_site(project: Project) -> None:
    password = "from django.conf import settings; print(settings.FLEET_CREDENTIALS.admin_password)"
    of_the_site = project.execute("web", "python", "-c", password).stdout
    assert project.execute("control", "python", "-c", password).stdout == of_the_site
    assert project.execute("node", "python", "-c", password).stdout != of_the_site
    assert project.execute("node", "ls", "/var/lib/fleet/private").stdout == ""


def test_the_sample_mission_runs_in_it(project: Project) -> None:
    repository = (
        "cp -r /opt/fleet/examples . && git init -q . && git add . && git -c user.name=t -c user.email=t@x commit -qm x"
    )
    project.execute("node", "sh", "-c", f"mkdir /projects/sample && cd /projects/sample && {repository}")
    started = time.monotonic()
    result = project.manage(
        "fleet_mission", "run", "examples/repo_audit/audit.yaml", "--param", "repository=/projects/sample",
        "--json", timeout=600, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    report(f"sample mission: {time.monotonic() - started:.1f} s")
    artifacts = project.manage("fleet_mission", "artifacts", "latest").stdout
    assert "report.html" in artifacts, artifacts


@pytest.mark.parametrize("service", ["node", "control", "web", "valkey", "postgres"])
def test_a_crashed_container_is_restarted_and_the_mission_continues(project: Project, service: str) -> None:
    plan = (
        "mission: m\nsorties:\n  a: {agent: backend, run: 'sleep 3'}\n  b: {agent: testing, needs: [a], run: 'true'}\n"
    )
    launch = f"printf {plan!r} > /tmp/plan.yaml && ./manage.py fleet_mission run /tmp/plan.yaml --detach --json"
    project.execute("control" if service == "web" else "web", "sh", "-c", launch)
    time.sleep(1)
    before = project.pid(service)
    started = time.monotonic()
    project.crash(service)
    until(lambda: project.pid(service) not in {0, before}, within_s=120)
    until(project.is_ready, within_s=240)
    until(lambda: _state(project) == "succeeded", within_s=300, otherwise=lambda: f"the mission is {_state(project)}")
    report(f"crash of {service}: the mission ended {time.monotonic() - started:.1f} s later")


def _state(project: Project) -> str:
    result = project.manage("fleet_mission", "show", "latest", "--json", check=False)
    return str(json.loads(result.stdout)["state"]) if result.returncode == 0 else "unknown"


def test_one_type_is_scaled_to_two_containers(project: Project) -> None:
    assert live(project, type="backend") == 1
    project.compose("--profile", "backend", "up", "-d", "--no-recreate", "--scale", "node-backend=2")
    until(lambda: live(project, type="backend") == 3, within_s=180)
    assert live(project) == 8
    status = json.loads(project.manage("fleet_agents", "status", "--json").stdout)
    assert sorted(node["types"] for node in status["nodes"] if node["up"]) == [[], ["backend"], ["backend"]]


def test_it_shuts_down_cleanly_and_leaves_nothing(project: Project) -> None:
    project.remove_replicas("node-backend")
    project.compose("stop", *FLEET_SERVICES)
    assert "its node was stopped" in project.postgres("SELECT reason FROM agents_agent").lower()
    started = time.monotonic()
    project.compose("--profile", "backend", "down", "-v")
    report(f"down: {time.monotonic() - started:.1f} s")
    assert project.leftovers() == []
