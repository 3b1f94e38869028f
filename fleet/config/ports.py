"""Which port each of the fleet's own servers listens on: `.fleet/private/ports.json`, a name and a number each.

A server keeps the port that it had, so that addresses stay good; it gets another where something else has taken it.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile

from fleet.config.home import Home


def recorded(home: Home) -> dict[str, int]:
    """The ports that were chosen last; empty before the first start."""
    try:
        return {str(name): int(port) for name, port in json.loads(_file(home)).items()}
    except (FileNotFoundError, ValueError, AttributeError):
        return {}


class Ports:
    """What one supervisor chose. A server that it starts again gets the same port, while nobody else has taken it."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._chosen: dict[str, int] = {}

    def choose(self, name: str, *, preferred: int = 0) -> int:
        """The one that this server had, the preferred one, the one of an earlier run, or any free one; recorded."""
        known = recorded(self._home)
        for port in (self._chosen.get(name, 0), preferred, known.get(name, 0)):
            if port and is_free(port):
                break
        else:
            port = _any_free()
        self._chosen[name] = port
        _record(self._home, {**known, name: port})
        return port


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a closed connection's remains do not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _any_free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _file(home: Home) -> str:
    return (home.private / "ports.json").read_text()


def _record(home: Home, ports: dict[str, int]) -> None:
    handle, draft = tempfile.mkstemp(dir=home.private, prefix="ports-")
    with os.fdopen(handle, "w") as file:
        json.dump(ports, file)
    os.replace(draft, home.private / "ports.json")
