"""The supervisors of this checkout, put together from its settings."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings

from fleet.services import process_table
from fleet.services.providers import base
from fleet.services.providers.base import Provider
from fleet.services.supervision.service import Limits
from fleet.services.supervision.supervisor import Supervisor


def provider() -> Provider:
    return base.choose(
        home=settings.FLEET_HOME, credentials=settings.FLEET_CREDENTIALS, endpoints=settings.FLEET_ENDPOINTS
    )


def limits() -> Limits:
    return Limits(
        response_s=settings.FLEET_ALERT_RESPONSE_S or None,
        memory_bytes=settings.FLEET_ALERT_MEMORY_MB * 1_000_000 or None,
        restarts=settings.FLEET_ALERT_RESTARTS or None,
    )


def services(say: Callable[[str], None]) -> Supervisor:
    """Postgres and Valkey alone."""
    chosen = provider()
    return Supervisor(
        home=settings.FLEET_HOME,
        kind="services",
        provider=chosen.name,
        services=chosen.services(limits=limits()),
        say=say,
    )


def fleet(say: Callable[[str], None]) -> Supervisor:
    """The services and all the processes of a fleet."""
    chosen = provider()
    table = process_table.table(
        base=settings.BASE_DIR,
        home=settings.FLEET_HOME,
        limits=limits(),
        web_port=settings.FLEET_WEB_PORT,
        say=say,
    )
    return Supervisor(
        home=settings.FLEET_HOME,
        kind="fleet",
        provider=chosen.name,
        services=(*chosen.services(limits=limits()), *table),
        say=say,
    )
