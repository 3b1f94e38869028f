"""The interface of the providers of Postgres and Redis. Both providers pass tests/contracts/test_providers.py."""

from __future__ import annotations

from typing import Protocol

from fleet.config.credentials import Credentials
from fleet.config.datastores import Endpoints
from fleet.config.home import Home
from fleet.services.providers.embedded import Embedded
from fleet.services.providers.external import External
from fleet.services.supervision.service import Limits, Service


class Provider(Protocol):
    @property
    def name(self) -> str: ...

    def services(self, *, limits: Limits) -> tuple[Service, ...]:
        """Return the services `postgres` and `valkey`, with their probes and, if they are ours, their commands."""

    def endpoints(self) -> Endpoints:
        """Return their addresses; connections succeed once both are healthy."""


def choose(*, home: Home, credentials: Credentials, endpoints: Endpoints) -> Provider:
    """Return the provider that the settings name."""
    return External(endpoints) if endpoints.provider == "external" else Embedded(home, credentials)
