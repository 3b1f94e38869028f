"""An error from Postgres or Redis that does not answer says what to do, which depends on who runs the server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet.config.home import Home
from fleet.services import outages
from fleet.services.supervision import lock


@pytest.fixture
def home(tmp_path: Path, settings: Any) -> Home:
    """A home of its own, whose services the fleet would start."""
    settings.FLEET_HOME = Home(tmp_path)
    settings.FLEET_ENDPOINTS = replace(settings.FLEET_ENDPOINTS, provider="embedded")
    settings.FLEET_HOME.create_folders()
    return Home(tmp_path)


ERROR = ConnectionError("connection refused.\nIs the server running?")


def test_without_a_fleet_an_outage_means_that_it_must_be_started(home: Home) -> None:
    error = outages.postgres_unavailable(ERROR)
    assert isinstance(error, outages.FleetNotRunning)
    assert error.hint.startswith("Start it: ")


def test_an_outage_of_a_running_fleet_is_repaired_by_it(home: Home) -> None:
    with lock.hold(home):
        error = outages.redis_unavailable(ERROR)
    assert error.message == "Redis does not answer (connection refused)."
    assert error.hint.startswith("The fleet restarts it. Watch it: ")


@pytest.mark.parametrize("name, setting", [("postgres", "DATABASE_URL"), ("redis", "REDIS_URL")])
def test_an_outage_of_an_external_server_names_its_setting(home: Home, name: str, setting: str, settings: Any) -> None:
    settings.FLEET_ENDPOINTS = replace(settings.FLEET_ENDPOINTS, provider="external")
    error = getattr(outages, f"{name}_unavailable")(ERROR)
    assert error.hint == f"Check {setting}, and that the server is running."
    assert setting not in error.over_http, "clients of the API cannot change settings"
    assert "it closed the connection" in getattr(outages, f"{name}_unavailable")(ConnectionError()).message
