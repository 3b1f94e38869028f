"""The interface of the providers of Postgres and Redis. All of them pass tests/contracts/test_providers.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fleet.config.credentials import Credentials
from fleet.config.datastores import Endpoints
from fleet.config.home import Home
from fleet.services.providers.containers import Containers, Images
from fleet.services.providers.embedded import Embedded
from fleet.services.providers.engine import ContainerEngine
from fleet.services.providers.external import External
from fleet.services.supervision.service import AlertLimits, Service


class Provider(Protocol):
    @property
    def name(self) -> str: ...

    def services(self, *, limits: AlertLimits) -> tuple[Service, ...]:
        """Return the services `postgres` and `valkey`, with their probes and, if they are ours, their commands."""

    def endpoints(self) -> Endpoints:
        """Return their addresses; connections succeed once both are healthy."""


def choose(
    *, home: Home, credentials: Credentials, endpoints: Endpoints, images: Images, say: Callable[[str], None]
) -> Provider:
    """Return the provider that the settings name. `say` shows lines about work that takes long, such as a download."""
    match endpoints.provider:
        case "external":
            return External(endpoints)
        case "embedded":
            return Embedded(home, credentials, sockets=endpoints.postgres.host.startswith("/"))
        case engine:
            return Containers(home, credentials, engine=ContainerEngine(engine), images=images, say=say)
