"""The status of services: of external ones, which no supervisor watches, and as text."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from django.conf import settings

from fleet import errors
from fleet.services import statuses
from fleet.services.providers.external import External

SERVICE = {
    "state": "healthy",
    "healthy": True,
    "pid": 41,
    "uptime_s": 61.0,
    "response_ms": 1.2,
    "restarts": 0,
    "memory_bytes": 12_000_000,
    "error": "",
    "log": None,
}


def status(*services: dict[str, Any], events: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {
        "running": True,
        "kind": "fleet",
        "provider": "embedded",
        "pid": 40,
        "ready": True,
        "stopping": False,
        "uptime_s": 62.0,
        "services": list(services),
        "events": events or [],
    }


def test_external_servers_are_probed_and_the_text_says_which_one_is_away() -> None:
    endpoints = replace(settings.FLEET_ENDPOINTS, redis_url="redis://:hush@127.0.0.1:1/0")
    document = asyncio.run(statuses.external_status(External(endpoints)))
    postgres, valkey = document["services"]
    assert (postgres["state"], postgres["healthy"], postgres["error"]) == ("healthy", True, "")
    assert postgres["response_ms"] > 0
    assert (valkey["state"], valkey["healthy"], valkey["response_ms"]) == ("unhealthy", False, None)
    head, _, _, first, second, problem = statuses.text(document).splitlines()
    assert head == "services · external services"
    assert first.split()[:3] == ["postgres", "healthy", "–"]
    assert second.split() == ["valkey", "unhealthy", "–", "–", "–", "0", "–"]
    assert problem == f"valkey: {valkey['error']}"
    assert problem.startswith("valkey: Redis does not answer: ")
    assert "hush" not in problem


def test_the_text_has_a_line_for_each_service_and_the_last_events() -> None:
    services = ({**SERVICE, "name": "postgres"}, {**SERVICE, "name": "web", "state": "starting", "uptime_s": None})
    event = {"at": "2026-11-28T17:19:26.088+00:00", "service": "web", "message": "web does not answer."}
    assert statuses.text(status(*services, events=[event])).splitlines() == [
        "fleet · embedded services · supervisor 40 · up 1 min 2 s",
        "",
        "NAME      STATE     UP         RESPONSE  MEMORY  RESTARTS  PID",
        "postgres  healthy   1 min 1 s  1.2 ms    12 MB   0         41",
        "web       starting  –          1.2 ms    12 MB   0         41",
        "",
        "2026-11-28T17:19:26Z  web does not answer.",
    ]


def test_one_service_is_shown_with_its_own_events_only() -> None:
    services = ({**SERVICE, "name": "postgres"}, {**SERVICE, "name": "valkey"})
    events = [{"service": name, "message": f"{name} is slow."} for name in ("postgres", "valkey")]
    one = statuses.only_service(status(*services, events=events), "valkey")
    assert (one["services"], one["events"], one["pid"]) == ([services[1]], [events[1]], 40)
    with pytest.raises(errors.NotFound, match="No service is called 'redis'") as unknown:
        statuses.only_service(status(*services), "redis")
    assert unknown.value.hint == "The services are: postgres, valkey."


def test_processes_that_a_killed_supervisor_left_are_named_with_what_stops_them() -> None:
    left = [{"name": "valkey", "pid": 12}, {"name": "postgres", "pid": 11}]
    text = statuses.text({"running": False, "left": left})
    assert text.startswith(
        "The supervisor was killed and left these processes running: valkey (pid 12), postgres (pid 11). Stop them: "
    )
    assert text.endswith("fleet_down")


def test_without_a_fleet_the_text_says_how_to_start_one() -> None:
    first, second = statuses.text({"running": False, "left": []}).splitlines()
    assert first.startswith("Nothing is running here. Start the fleet: ")
    assert second.startswith("Start only Postgres and Valkey: ")
