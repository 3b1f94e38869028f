"""Somebody else's Postgres and Redis, named by DATABASE_URL and REDIS_URL: nothing to start, only to watch."""

from __future__ import annotations

from fleet.config.datastores import Endpoints
from fleet.services.providers import probes
from fleet.services.supervision.service import Backoff, Limits, Service

# What does not answer for so long at the start is given up: it is not ours to start again.
READY_S = 30
ONCE = Backoff(attempts=0)


class External:
    name = "external"

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints

    def services(self, *, limits: Limits) -> tuple[Service, ...]:
        return (
            Service(
                name="postgres",
                command=None,
                probe=lambda: probes.postgres(self._endpoints.postgres),
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
