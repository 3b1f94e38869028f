"""Why Postgres cannot be used, and what to do about it, for commands and for the API."""

from __future__ import annotations

from django.conf import settings
from django.db import Error

from fleet import errors, invocation
from fleet.services.supervision import lock


class NotRunning(errors.Unavailable):
    """The fleet is not running here."""


def start_hint() -> str:
    """How to start the fleet."""
    return f"Start it: {invocation.command('fleet_up', '--detach')}"


def without_postgres(fault: Error) -> errors.Unavailable:
    """The error that tells an operator why the database cannot be used, and what to do."""
    over_http = "Try again in a moment. If that does not help, tell the fleet's operators."
    running = lock.is_held(settings.FLEET_HOME)
    if not running and settings.FLEET_ENDPOINTS.provider != "external":
        return NotRunning(hint=start_hint(), over_http=over_http)
    why = (str(fault).strip().splitlines() or ["it closed the connection"])[0].rstrip(".")
    if running:
        hint = f"The fleet restarts it. Watch it: {invocation.command('fleet_services', 'status')}"
    else:
        hint = "Check DATABASE_URL, and that this server is up."
    return errors.Unavailable(f"Postgres does not answer ({why}).", hint=hint, over_http=over_http)
