"""The health check of the project's containers: `python -IS fleet/containers/health_check.py ROLE`.

It is a separate program that imports nothing from the fleet, because an engine runs it every few seconds. The tests
compare its constants with those of the fleet.
"""

from __future__ import annotations

import http.client
import os
import socket
import sys
import time

HOME = os.environ.get("FLEET_HOME", "/var/lib/fleet")
RUN = os.path.join(os.environ.get("FLEET_PRIVATE") or os.path.join(HOME, "private"), "run")
WEB_PORT = 8000
FLOWER_SOCKET, FLOWER_PATH = "flower.sock", "/flower/healthcheck"
SILENT_S = 30  # a loop without a heartbeat for this long has stalled
TIMEOUT_S = 5


def check(role: str) -> str:
    """Return why the process of this container is unhealthy; empty if it is healthy."""
    try:
        match role:
            case "web":
                return _request(http.client.HTTPConnection("127.0.0.1", WEB_PORT, timeout=TIMEOUT_S), "/healthz")
            case "flower":
                with socket.socket(socket.AF_UNIX) as unix_socket:
                    unix_socket.settimeout(TIMEOUT_S)
                    unix_socket.connect(os.path.join(RUN, FLOWER_SOCKET))
                    connection = http.client.HTTPConnection("localhost")
                    connection.sock = unix_socket
                    return _request(connection, FLOWER_PATH)
            case "control" | "node":
                age = time.time() - os.stat(os.path.join(RUN, f"fleet_{role}.beat")).st_mtime
                return f"no heartbeat for {age:.0f} s" if age > SILENT_S else ""
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    return f"no role {role!r}"


def _request(connection: http.client.HTTPConnection, path: str) -> str:
    connection.request("GET", path)
    status = connection.getresponse().status
    return "" if status < 500 else f"status {status}"


if __name__ == "__main__":
    sys.exit(check(sys.argv[1]) or 0)
