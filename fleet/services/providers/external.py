"""Existing servers of Postgres and Redis (DATABASE_URL and REDIS_URL), which are watched but not started."""

from __future__ import annotations

from fleet.config.datastores import Endpoints
from fleet.services.providers import probes
from fleet.services.supervision.service import AlertLimits, Backoff, Service

READY_S = 30  # a server that does not answer within this time at the start has failed
ONCE = Backoff(attempts=0)  # there is nothing to restart


class External:
    name = "external"

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints

    def services(self, *, limits: AlertLimits) -> tuple[Service, ...]:
        return (
            Service(
                name="postgres",
                command=None,
                probe=self._probe_postgres,
                ready_s=READY_S,
                backoff=ONCE,
                limits=limits,
            ),
            Service(
                name="valkey",
                command=None,
                probe=lambda: probes.redis_server(self._endpoints.redis_url),
                ready_s=READY_S,
                backoff=ONCE,
                limits=limits,
            ),
        )

    def endpoints(self) -> Endpoints:
        return self._endpoints

    async def _probe_postgres(self) -> None:
        """Probe the address that every process uses and, behind a pooler, that of Postgres itself."""
        await probes.postgres(self._endpoints.postgres)
        if self._endpoints.direct is not None:
            await probes.postgres(self._endpoints.direct, setting="DATABASE_DIRECT_URL", session=True)
