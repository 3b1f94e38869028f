"""Private durable servers for a measurement, with the Django project and its tables."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.postgres import cluster


@contextmanager
def temporary(**env: str) -> Iterator[cluster.Cluster]:
    """Start the servers and set up Django. Adds their addresses and `env` to the environment of this process."""
    services = cluster.temporary(durable=True)
    try:
        services.start()
        os.environ.update(
            {
                **services.environment(),
                "FLEET_SCRIPTED_DRIVER": "yes",
                "DJANGO_SETTINGS_MODULE": "fleet.settings",
                **env,
            }
        )
        import django  # noqa: PLC0415  (the environment names the database)

        django.setup()
        from django.core.management import call_command  # noqa: PLC0415
        from django.db import connections  # noqa: PLC0415

        call_command("migrate", verbosity=0)
        try:
            yield services
        finally:
            connections.close_all()
    finally:
        cluster.remove(services)
