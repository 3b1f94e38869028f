"""The ports of the fleet's own servers, recorded by name in `.fleet/private/ports.json`.

A server keeps its port, so that addresses stay valid, unless another program has taken it.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import tempfile
import threading

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
        self._listeners: dict[str, socket.socket] = {}

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

    def listen(self, name: str, *, preferred: int = 0) -> socket.socket:
        """A socket that listens on the server's port, for the server to inherit. The caller must not accept on it.

        It stays open as long as this process, and the server gets it at each start. So nobody else can listen there
        while the server restarts, and connections of that moment wait for it.
        """
        while name not in self._listeners:
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", self.choose(name, preferred=preferred)))
                listener.listen()
                self._listeners[name] = listener
            except OSError as error:
                listener.close()
                if error.errno != errno.EADDRINUSE:  # otherwise another program has just taken the port
                    raise
        return self._listeners[name]


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
