"""The status that `fleet_services status` shows, as data and as text."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from fleet import errors, humanise
from fleet.console import invocation
from fleet.services.providers.base import Provider
from fleet.services.supervision.service import AlertLimits, Service


async def external_status(provider: Provider) -> dict[str, Any]:
    """Probe external servers directly, without a supervisor, and return the status in the same format."""
    return {
        "running": True,
        "kind": "services",
        "provider": provider.name,
        "pid": None,
        "ready": True,
        "stopping": False,
        "uptime_s": None,
        "services": [await _probe(service) for service in provider.services(limits=AlertLimits())],
        "events": [],
    }


async def _probe(service: Service) -> dict[str, Any]:
    error, started_at = "", time.monotonic()
    try:
        async with asyncio.timeout(10):
            if service.probe is not None:
                await service.probe()
    except errors.FleetError as exc:
        error = str(exc)
    except TimeoutError:
        error = "It did not answer within 10 s."
    response_ms = round((time.monotonic() - started_at) * 1000, 2)
    return {
        "name": service.name,
        "state": "unhealthy" if error else "healthy",
        "healthy": not error,
        "pid": None,
        "uptime_s": None,
        "response_ms": None if error else response_ms,
        "memory_bytes": None,
        "restarts": 0,
        "error": error,
        "log": None,
    }


def only_service(status: dict[str, Any], name: str) -> dict[str, Any]:
    """Reduce a status to one service and its events; raises NotFound if no service has that name."""
    services = [service for service in status["services"] if service["name"] == name]
    if not services:
        service_names = ", ".join(service["name"] for service in status["services"])
        raise errors.NotFound(f"No service is called {name!r}.", hint=f"The services are: {service_names}.")
    return {**status, "services": services, "events": [e for e in status["events"] if e["service"] == name]}


def text(status: dict[str, Any]) -> str:
    """Format a status for people."""
    if not status["running"]:
        if orphans := status["left"]:
            return f"{describe_orphans(orphans)} Stop them: {invocation.command('fleet_down')}"
        return f"Nothing is running here. {how_to_start()}"
    head = f"{status['kind']} · {status['provider']} services"
    if status["pid"]:
        head += f" · supervisor {status['pid']} · up {_duration(status['uptime_s'])}"
    rows = [("NAME", "STATE", "UP", "RESPONSE", "MEMORY", "RESTARTS", "PID")]
    rows += [
        (
            service["name"],
            service["state"],
            _duration(service["uptime_s"]),
            "–" if service["response_ms"] is None else humanise.duration(service["response_ms"] / 1000),
            "–" if service["memory_bytes"] is None else f"{service['memory_bytes'] / 1e6:.0f} MB",
            str(service["restarts"]),
            str(service["pid"] or "–"),
        )
        for service in status["services"]
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [head, ""]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"{service['name']}: {service['error']}" for service in status["services"] if service["error"]]
    if status["events"]:
        lines += ["", *(f"{event['at'][:19]}Z  {event['message']}" for event in status["events"])]
    return "\n".join(lines)


def describe_orphans(orphans: Sequence[Mapping[str, Any]]) -> str:
    """Name the processes that a supervisor left behind when it was killed, in one sentence."""
    processes = ", ".join(f"{orphan['name']} (pid {orphan['pid']})" for orphan in orphans)
    return f"The supervisor was killed and left these processes running: {processes}."


def how_to_start() -> str:
    return (
        f"Start the fleet: {invocation.command('fleet_up', '--detach')}\n"
        f"Start only Postgres and Valkey: {invocation.command('fleet_services', 'up', '--detach')}"
    )


def _duration(seconds: float | None) -> str:
    return "–" if seconds is None else humanise.duration(seconds)
