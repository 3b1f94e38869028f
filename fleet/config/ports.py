"""The ports of the fleet's own servers, recorded by name in `.fleet/private/ports.json`.

A server keeps its port, so that addresses stay valid, unless another program has taken it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
import threading
from pathlib import Path

from fleet.config.home import Home

_choosing = threading.Lock()  # a supervisor prepares several servers at once, each in a thread


def recorded(home: Home) -> dict[str, int]:
    """Return the ports that were last chosen, by server; empty before the first start."""
    try:
        text = (home.private / "ports.json").read_text()
        return {str(name): int(port) for name, port in json.loads(text).items()}
    except (FileNotFoundError, ValueError, AttributeError):
        return {}


class Ports:
    """The ports that one supervisor chose. A restarted server gets the same port while that is free."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._ports: dict[str, int] = {}

    def choose(self, name: str, *, preferred: int = 0) -> int:
        """Choose and record a free port: the server's current, preferred or previous port, or any."""
        with _choosing:
            previous = recorded(self._home)
            for port in (self._ports.get(name, 0), preferred, previous.get(name, 0)):
                if port and is_free(port):
                    break
            else:
                port = find_free()
            self._ports[name] = port
            _record(self._home, {**previous, name: port})
        return port


def announce(home: Home, name: str, port: int) -> None:
    """Record that this server listens on its port now.

    Between the choice of a port and that moment, a server of another fleet on this host may take it, and would then
    answer the probe of this one.
    """
    with contextlib.suppress(OSError):  # a home without a supervisor, such as a container's, may be read-only
        _announcement(home, name).write_text(str(port))


def withdraw(home: Home, name: str) -> None:
    """Forget the announcement of an earlier process."""
    _announcement(home, name).unlink(missing_ok=True)


def announced(home: Home, name: str) -> int | None:
    """Return the port on which a server listens; None before it does."""
    try:
        return int(_announcement(home, name).read_text())
    except (FileNotFoundError, ValueError):  # ValueError: it is being written
        return None


def _announcement(home: Home, name: str) -> Path:
    return home.run / f"{name}.port"


def is_free(port: int) -> bool:
    """Whether a server could now listen on this port of the loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections in TIME_WAIT do not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def find_free() -> int:
    """Return a port of the loopback on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _record(home: Home, ports: dict[str, int]) -> None:
    handle, draft = tempfile.mkstemp(dir=home.private, prefix="ports-")
    with os.fdopen(handle, "w") as file:
        json.dump(ports, file)
    os.replace(draft, home.private / "ports.json")
