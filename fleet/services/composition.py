"""Builds the supervisors of this fleet from its settings."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings

from fleet.services import process_table
from fleet.services.providers import base
from fleet.services.providers.base import Provider
from fleet.services.providers.containers import Images
from fleet.services.supervision.service import AlertLimits
from fleet.services.supervision.supervisor import Supervisor


def provider(say: Callable[[str], None]) -> Provider:
    return base.choose(
        home=settings.FLEET_HOME,
        credentials=settings.FLEET_CREDENTIALS,
        endpoints=settings.FLEET_ENDPOINTS,
        images=Images(postgres=settings.POSTGRES_IMAGE, valkey=settings.VALKEY_IMAGE),
        say=say,
    )


def limits() -> AlertLimits:
    return AlertLimits(
        response_s=settings.FLEET_ALERT_RESPONSE_S or None,
        memory_bytes=settings.FLEET_ALERT_MEMORY_MB * 1_000_000 or None,
        restarts=settings.FLEET_ALERT_RESTARTS or None,
    )


def services(say: Callable[[str], None]) -> Supervisor:
    """A supervisor of Postgres and Valkey alone."""
    stores = provider(say)
    return Supervisor(
        home=settings.FLEET_HOME,
        kind="services",
        provider=stores.name,
        services=stores.services(limits=limits()),
        say=say,
    )


def fleet(say: Callable[[str], None]) -> Supervisor:
    """A supervisor of Postgres, Valkey and all processes of a fleet."""
    stores = provider(say)
    processes = process_table.table(
        base=settings.BASE_DIR,
        home=settings.FLEET_HOME,
        limits=limits(),
        web_port=settings.FLEET_WEB_PORT,
        say=say,
    )
    return Supervisor(
        home=settings.FLEET_HOME,
        kind="fleet",
        provider=stores.name,
        services=(*stores.services(limits=limits()), *processes),
        say=say,
    )
