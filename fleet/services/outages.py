"""Explains to commands and API clients why Postgres or Redis is unavailable, and what to do about it."""

from __future__ import annotations

from django.conf import settings

from fleet import errors
from fleet.console import invocation
from fleet.services.supervision import lock


class FleetNotRunning(errors.Unavailable):
    """The fleet is not running here."""


def start_hint() -> str:
    return f"Start it: {invocation.command('fleet_up', '--detach')}"


def postgres_unavailable(error: Exception) -> errors.Unavailable:
    return _unavailable(f"Postgres does not answer ({_reason(error)}).", setting="DATABASE_URL")


def redis_unavailable(error: Exception) -> errors.Unavailable:
    return _unavailable(f"Redis does not answer ({_reason(error)}).", setting="REDIS_URL")


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["it closed the connection"])[0].rstrip(".")


def _unavailable(message: str, *, setting: str) -> errors.Unavailable:
    """The error to report for a server. Its hint is for operators; `over_http` is for API clients."""
    over_http = "Try again in a moment. If that does not help, contact the fleet's operators."
    running = lock.is_held(settings.FLEET_HOME)
    if not running and settings.FLEET_ENDPOINTS.provider != "external":
        return FleetNotRunning(hint=start_hint(), over_http=over_http)
    if running:
        hint = f"The fleet restarts it. Watch it: {invocation.command('fleet_services', 'status')}"
    else:
        hint = f"Check {setting}, and that the server is running."
    return errors.Unavailable(message, hint=hint, over_http=over_http)
