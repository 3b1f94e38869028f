"""`fleet_services` works with FLEET_SERVICES=podman or docker as with embedded servers. The engines are scripted."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from fleet import errors
from fleet.config import credentials, datastores
from fleet.config.env import Environment
from fleet.config.home import Home
from fleet.config.programs import ENGINES, EngineName
from fleet.services.providers.engine import ContainerEngine
from tests.support.processes.supervised import Checkout
from tests.support.services.engines import IMAGES, ScriptedEngine
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("engines")


@pytest.fixture(params=ENGINES)
def name(request: pytest.FixtureRequest) -> EngineName:
    engine: EngineName = request.param
    return engine


@pytest.fixture
def engine(tmp_path: Path, name: EngineName) -> ScriptedEngine:
    return ScriptedEngine(tmp_path / "engine", name)


@pytest.fixture
def checkout(tmp_path: Path, name: EngineName, engine: ScriptedEngine) -> Iterator[Checkout]:
    images = {"POSTGRES_IMAGE": IMAGES.postgres, "VALKEY_IMAGE": IMAGES.valkey}
    new_checkout = Checkout(tmp_path / "home", {**engine.environment, **images, "FLEET_SERVICES": name})
    try:
        yield new_checkout
    finally:
        new_checkout.manage("fleet_services", "down", check=False, timeout=90)


def status(checkout: Checkout, name: str) -> dict[str, Any]:
    services = checkout.json("fleet_services", "status")["services"]
    return next(service for service in services if service["name"] == name)


def query(checkout: Checkout, statement: str) -> Any:
    home = Home(checkout.root)
    endpoints = datastores.resolve(Environment({"FLEET_SERVICES": "podman"}), home, credentials.ensure(home))
    assert endpoints.owner is not None
    with psycopg.connect(
        host="127.0.0.1",
        port=endpoints.owner.port,
        user=endpoints.owner.user,
        password=endpoints.owner.password,
        dbname="fleet",
    ) as session:
        return session.execute(statement.encode()).fetchone() if statement.startswith("SELECT") else session.execute(
            statement.encode()
        )  # fmt: skip


def container_pid(checkout: Checkout, name: EngineName, service: str) -> int:
    result = ContainerEngine(name).call(
        "inspect", "--format={{.State.Pid}}", f"fleet-{Home(checkout.root).id}-{service}"
    )
    return int(result.stdout)


def test_up_status_restart_logs_and_down_work(checkout: Checkout, engine: ScriptedEngine, name: EngineName) -> None:
    started = time.monotonic()
    checkout.manage("fleet_services", "up", "--detach", timeout=90)
    assert time.monotonic() - started < 30
    identity = Home(checkout.root).id
    assert engine.running() == [f"fleet-{identity}-postgres", f"fleet-{identity}-valkey"]
    document = checkout.json("fleet_services", "status")
    assert (document["provider"], document["ready"]) == (name, True)
    assert [(service["state"], service["memory_bytes"] > 1_000_000) for service in document["services"]] == [
        ("healthy", True),
        ("healthy", True),
    ]
    query(checkout, "CREATE TABLE kept ()")
    checkout.manage("fleet_services", "restart", "postgres", timeout=90)
    assert status(checkout, "postgres")["state"] == "healthy"
    assert query(checkout, "SELECT count(*) FROM kept") == (0,)
    assert (
        "database system is ready to accept connections" in checkout.manage("fleet_services", "logs", "postgres").stdout
    )
    checkout.manage("fleet_services", "down", timeout=90)
    assert engine.running() == []
    assert "database system is shut down" in checkout.manage("fleet_services", "logs", "postgres").stdout
    checkout.manage("fleet_services", "up", "--detach", timeout=90)
    assert query(checkout, "SELECT count(*) FROM kept") == (0,)


def test_no_password_is_an_argument(checkout: Checkout, engine: ScriptedEngine) -> None:
    checkout.manage("fleet_services", "up", "--detach", timeout=90)
    known = credentials.ensure(Home(checkout.root))
    arguments = str(engine.calls())
    for password in (known.postgres_password, known.postgres_admin_password, known.redis_password):
        assert password not in arguments
    options = [part for call in engine.calls() for part in call if part.startswith("--publish=")]
    assert options
    assert all(part.startswith("--publish=127.0.0.1:") for part in options)


@pytest.mark.parametrize("service", ["postgres", "valkey"])
def test_a_container_that_dies_is_started_again(
    checkout: Checkout, engine: ScriptedEngine, name: EngineName, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in engine.environment.items():
        monkeypatch.setenv(variable, value)
    checkout.manage("fleet_services", "up", "--detach", timeout=90)
    os.kill(container_pid(checkout, name, service), signal.SIGKILL)
    until(lambda: (now := status(checkout, service))["restarts"] == 1 and now["state"] == "healthy")
    assert "service.restarted" in str(checkout.json("fleet_services", "status")["events"])


def test_the_next_start_stops_containers_of_a_killed_supervisor_and_keeps_the_data(
    checkout: Checkout, engine: ScriptedEngine, name: EngineName
) -> None:
    checkout.manage("fleet_services", "up", "--detach", timeout=90)
    query(checkout, "CREATE TABLE kept ()")
    document = checkout.json("fleet_services", "status")
    for pid in [document["pid"], *(service["pid"] for service in document["services"])]:
        psutil.Process(pid).kill()  # the supervisor, and the engine's client for each container
    assert len(engine.running()) == 2
    checkout.manage("fleet_services", "up", "--detach", timeout=90)
    assert query(checkout, "SELECT count(*) FROM kept") == (0,)
    assert len(engine.running()) == 2


def test_a_missing_engine_is_named_and_the_embedded_services_are_offered(tmp_path: Path, name: EngineName) -> None:
    checkout = Checkout(tmp_path / "home", {"FLEET_SERVICES": name, "PATH": "/nowhere"})
    result = checkout.manage("fleet_services", "up", "--detach", check=False)
    assert result.returncode != 0
    assert f"{name} was not found on this host" in result.stderr
    assert "set FLEET_SERVICES=embedded" in result.stderr
    assert "restarting it" not in result.stderr  # no retry would find it


def test_an_engine_that_does_not_answer_is_reported_in_its_own_words(
    checkout: Checkout, engine: ScriptedEngine, name: EngineName
) -> None:
    engine.write("error", "Cannot connect to the daemon")
    result = checkout.manage("fleet_services", "up", "--detach", check=False, timeout=90)
    assert result.returncode != 0
    assert f"{name} does not answer: Cannot connect to the daemon" in result.stderr
    assert "FLEET_SERVICES=embedded" in result.stderr


def test_a_missing_image_is_pulled_and_if_it_cannot_be_the_start_says_so(
    checkout: Checkout, engine: ScriptedEngine
) -> None:
    engine.write("images", "")
    engine.write("pullable", f"{IMAGES.postgres}\n")
    result = checkout.manage("fleet_services", "up", "--detach", check=False, timeout=90)
    assert f"pulling {IMAGES.postgres}" in result.stderr
    assert f"The image {IMAGES.valkey} could not be pulled" in result.stderr
    assert result.returncode != 0
    engine.write("pullable", f"{IMAGES.valkey}\n")
    checkout.manage("fleet_services", "up", "--detach", timeout=90)


@pytest.mark.parametrize("machine", [None, "stopped"])
def test_on_macos_podmans_machine_is_created_and_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str | None
) -> None:
    scripted = ScriptedEngine(tmp_path / "engine", "podman")
    for variable, value in scripted.environment.items():
        monkeypatch.setenv(variable, value)
    scripted.write("error", "Cannot connect to Podman. Is the machine running?")
    if machine:
        scripted.write("machine", machine)
    messages: list[str] = []
    ContainerEngine("podman", platform="darwin").ensure_running(messages.append)
    created = ["creating Podman's virtual machine"] if machine is None else []
    assert messages == [*created, "starting Podman's virtual machine"]
    assert (scripted.state / "machine").read_text() == "running"
    ContainerEngine("podman", platform="darwin").ensure_running(messages.append)  # it is left alone from then on
    assert len(messages) == len(created) + 1


def test_on_linux_no_machine_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = ScriptedEngine(tmp_path / "engine", "podman")
    for variable, value in scripted.environment.items():
        monkeypatch.setenv(variable, value)
    scripted.write("error", "cannot set up namespace")
    scripted.write("machine", "stopped")
    with pytest.raises(errors.Unavailable, match="cannot set up namespace"):
        ContainerEngine("podman", platform="linux").ensure_running(lambda line: None)
    assert not any(call[0] == "machine" for call in scripted.calls())
