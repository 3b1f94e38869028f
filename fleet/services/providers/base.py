"""Where Postgres and Redis come from: one interface, two providers. Both pass tests/contracts/test_providers.py."""

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
        """`postgres` and `valkey`: how each is started (or that it is not) and how it is asked for its health."""

    def endpoints(self) -> Endpoints:
        """Where they are; good for connecting once both are healthy."""


def choose(*, home: Home, credentials: Credentials, endpoints: Endpoints) -> Provider:
    """The provider that the settings named."""
    return External(endpoints) if endpoints.provider == "external" else Embedded(home, credentials)
