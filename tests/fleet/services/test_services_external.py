"""External services: an incomplete configuration or a wrong password is refused, and nothing embedded is started."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from fleet.config import credentials, datastores
from fleet.config.env import Environment
from fleet.config.home import Home
from fleet.services.providers.external import External
from fleet.services.supervision.service import AlertLimits
from fleet.services.supervision.supervisor import Supervisor
from tests.support.postgres.cluster import Cluster, remove, temporary
from tests.support.processes.supervised import Checkout, checkout

pytestmark = pytest.mark.xdist_group("services")


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, str]]:
    """The URLs of a Postgres and a Valkey that require passwords."""
    cluster: Cluster = temporary(durable=False)
    try:
        cluster.start()
        yield cluster.environment()
    finally:
        remove(cluster)


def without_password(url: str) -> str:
    return re.sub(r":[^:@/]*@", "@", url)


def attempt(command: tuple[str, ...], database: str, broker: str) -> tuple[int, str, Checkout]:
    """Run a command with these URLs in a fresh home. Returns its exit code and its output. It must start nothing."""
    with checkout(env={"DATABASE_URL": database, "REDIS_URL": broker}) as home:
        result = home.manage(*command, check=False, timeout=40)
        assert not (home.root / "private" / "postgres").exists()
        assert not (home.root / "private" / "ports.json").exists()
        assert home.processes() == []
        return result.returncode, result.stdout + result.stderr, home


@pytest.mark.parametrize(
    "variable, command",
    [
        ("DATABASE_URL", ("fleet_up",)),
        ("REDIS_URL", ("fleet_services", "up")),
        ("REDIS_URL", ("fleet_services", "status")),
    ],
)
def test_one_url_without_the_other_is_refused(servers: dict[str, str], variable: str, command: tuple[str, ...]) -> None:
    urls = {name: servers[name] if name == variable else "" for name in ("DATABASE_URL", "REDIS_URL")}
    code, text, _ = attempt(command, urls["DATABASE_URL"], urls["REDIS_URL"])
    (missing,) = set(urls) - {variable}
    assert code == 2
    assert f"{variable} is set and {missing} is not. Set both" in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    "database, broker, message",
    [
        ("postgresql://u:hush@host:port/db", "redis://h", "DATABASE_URL cannot be read as a URL"),
        ("postgresql://u:hush/word@host/db", "redis://h", "DATABASE_URL cannot be read as a URL"),
        ("postgresql://u:hush@host/db", "redis://h:port", "REDIS_URL cannot be read as a URL"),
        ("mysql://u:hush@host/db", "redis://h", "DATABASE_URL must begin with postgresql://"),
        ("postgresql://u:hush@host", "redis://h", "DATABASE_URL names no database"),
        ("postgresql://host/db", "redis://h", "DATABASE_URL names no user"),
        ("postgresql://u:hush@host/db", "amqp://h", "REDIS_URL cannot be read as a URL: it must begin with redis://"),
    ],
)
def test_an_invalid_url_is_refused_without_revealing_its_password(
    tmp_path: Path, database: str, broker: str, message: str
) -> None:
    home = Home(tmp_path)
    urls = Environment({"DATABASE_URL": database, "REDIS_URL": broker})
    with pytest.raises(ImproperlyConfigured, match=message) as excinfo:
        datastores.resolve(urls, home, credentials.ensure(home))
    assert "hush" not in str(excinfo.value)
    assert excinfo.value.__suppress_context__ or excinfo.value.__context__ is None


def test_refused_settings_print_one_line_and_no_traceback() -> None:
    code, text, _ = attempt(("fleet_services", "up"), "postgresql://u:hush/word@host/db", "redis://h")
    assert code == 2
    assert text.startswith("Invalid settings: DATABASE_URL cannot be read as a URL")
    assert text.count("\n") == 1
    assert "hush" not in text


@pytest.mark.parametrize("variable", ["DATABASE_URL", "REDIS_URL"])
def test_a_url_without_a_required_password_is_refused(servers: dict[str, str], variable: str) -> None:
    urls = {**servers, variable: without_password(servers[variable])}
    code, text, _ = attempt(("fleet_up",), urls["DATABASE_URL"], urls["REDIS_URL"])
    assert code == 1
    assert f"requires a password and {variable} has none." in text
    assert "restarting it" not in text
    assert "prepare: running" not in text


@pytest.mark.parametrize(
    "variable, message", [("DATABASE_URL", "refuses DATABASE_URL"), ("REDIS_URL", "refuses the password in")]
)
def test_a_wrong_password_is_refused_and_not_printed(servers: dict[str, str], variable: str, message: str) -> None:
    urls = {**servers, variable: re.sub(r":[^:@/]*@", ":a-wrong-one@", servers[variable])}
    code, text, _ = attempt(("fleet_services", "up", "--detach"), urls["DATABASE_URL"], urls["REDIS_URL"])
    assert code == 1
    assert message in text
    assert "a-wrong-one" not in text


def test_unreachable_servers_are_reported_at_once() -> None:
    unreachable = {"DATABASE_URL": "postgresql://u:hush@127.0.0.1:1/x", "REDIS_URL": "redis://:hush@127.0.0.1:1"}
    with checkout(env=unreachable) as home:
        starting = home.start("fleet_up")
        assert starting.stderr is not None
        values = [starting.stderr.readline() for _ in range(4)]
        starting.send_signal(signal.SIGINT)
        values += starting.communicate(timeout=60)[1].splitlines()
        assert starting.returncode == 130
        assert any(line.startswith("postgres: Postgres at 127.0.0.1:1 does not answer: ") for line in values), values
        assert any(line.startswith("valkey: Redis does not answer: ") for line in values), values
        assert not any("hush" in line for line in values)


@pytest.mark.parametrize("name", ["postgres", "valkey"])
def test_unreachable_servers_fail_the_start_after_half_a_minute(tmp_path: Path, name: str) -> None:
    home = Home(tmp_path)
    urls = Environment({"DATABASE_URL": "postgresql://u@127.0.0.1:1/x", "REDIS_URL": "redis://127.0.0.1:1"})
    theirs = External(datastores.resolve(urls, home, credentials.ensure(home))).services(limits=AlertLimits())
    (match,) = [service for service in theirs if service.name == name]
    assert match.ready_s == 30
    items: list[str] = []
    supervisor = Supervisor(
        home=home, kind="services", provider="external", services=[replace(match, ready_s=0.3)], say=items.append
    )
    assert asyncio.run(supervisor.run()) == 1
    assert items[-2].startswith(f"{name}: failed: it did not answer within 0.3 s: ")
    assert items[-1] == f"{name} could not be started; stopping the other services."
    assert supervisor.status()["services"][0]["restarts"] == 0


def test_external_services_are_watched_but_cannot_be_restarted(servers: dict[str, str]) -> None:
    with checkout(env=servers | {"FLEET_HOME": ""}) as home:
        home.env["FLEET_HOME"] = str(home.root)
        document = home.json("fleet_services", "status")  # without a supervisor
        assert (document["running"], document["pid"], document["provider"]) == (True, None, "external")
        assert [service["healthy"] for service in document["services"]] == [True, True]
        result = home.manage("fleet_services", "up", "--detach", "--json")
        assert [service["pid"] for service in home.status()["services"]] == [None, None]
        refusal = home.manage("fleet_services", "restart", "postgres", check=False)
        assert refusal.returncode == 1
        assert "is an external server" in refusal.stderr
        home.manage("fleet_services", "down")
        password = re.findall(r":([^:@/]*)@", servers["DATABASE_URL"])[0]
        logs = "".join(log.read_text() for log in (home.root / "private" / "logs").iterdir())
        assert password not in logs + result.stdout + result.stderr
        assert home.left_behind() == []
