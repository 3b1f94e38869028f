"""docs/commands.md, docs/http.md and docs/metrics.md document everything that exists."""

from __future__ import annotations

import argparse
import re

import pytest
from django.conf import settings
from django.core.management import get_commands, load_command_class
from django.test import Client
from django.urls import get_resolver

from fleet import errors
from tests.support import api
from tests.support.paths import CHECKOUT

COMMANDS = (CHECKOUT / "docs" / "commands.md").read_text()
METRICS = (CHECKOUT / "docs" / "metrics.md").read_text()
HTTP = (CHECKOUT / "docs" / "http.md").read_text()
API = (CHECKOUT / "docs" / "api.md").read_text()


def actions(name: str) -> set[str]:
    app = get_commands()[name]
    assert isinstance(app, str)
    parser = load_command_class(app, name).create_parser("manage.py", name)
    found = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return set(found[0].choices) if found else set()


def test_each_command_and_action_is_documented() -> None:
    commands = {name for name in get_commands() if name.startswith("fleet_")}
    assert commands <= set(re.findall(r"`(fleet_\w+)", COMMANDS))
    rows = re.findall(r"^\| (`[a-z]+ .*?) \|", COMMANDS, re.MULTILINE)
    explained = set(re.findall(r"`([a-z]+) ", " ".join(rows)))
    assert actions("fleet_mission") | actions("fleet_agents") == explained


def test_each_exit_code_is_documented() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", COMMANDS, re.MULTILINE)}
    kinds = (errors.NotFound, errors.Invalid, errors.Conflict, errors.Forbidden, errors.RateLimited, errors.Unavailable)
    assert codes == {0, 3, 5, 130, 141} | {kind.exit_code for kind in kinds}


def test_each_route_is_documented() -> None:
    routes = {str(item.pattern).strip("^").split("<")[0] for item in get_resolver().url_patterns} - {""}
    paths = {path.strip("/") for path in re.findall(r"^\| `(/[^`<]*)", HTTP, re.MULTILINE)}
    assert {route.strip("/") for route in routes} <= paths


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_each_metric_and_check_is_documented(client: Client) -> None:
    bearer = {"Authorization": f"Bearer {settings.FLEET_CREDENTIALS.metrics_token}"}
    series = set(re.findall(r"^# TYPE (\w+)", client.get("/metrics", headers=bearer).content.decode(), re.MULTILINE))
    assert series == set(re.findall(r"^\| `(\w+)\{", METRICS, re.MULTILINE))
    assert all(f'"{check}"' in HTTP for check in client.get("/readyz").json()["checks"])


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_each_problem_has_the_documented_code(client: Client) -> None:
    result = dict(re.findall(r"^\| (\d+) \| `(\w+)`", API, re.MULTILINE))
    assert client.get("/api/v1/").json()["code"] == result["401"]
    ann = api.person("ann")
    assert ann.get("nodes").json()["code"] == result["403"]
    assert ann.get("nothing").json()["code"] == result["404"]
    assert ann.post("templates").json()["code"] == result["405"]
    assert ann.get("missions/nonsense").json()["code"] == result["422"]
    assert ann.post("missions", b"{").json()["code"] == result["400"]
    assert ann.post("missions", b"x" * 12_000_000).json()["code"] == result["413"]
