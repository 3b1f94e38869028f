"""`python -m fleet.web --port N`: the site, served on loopback by FLEET_WEB_WORKERS processes that share a port.

One process of Python uses one core. The first of them loads the site and forks the others, which share its memory, answer, and
end with it; it only replaces those that end by themselves. uvicorn can start several processes too, but loads the site in each, and
leaves them and the port behind when it is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
from importlib import import_module
from types import FrameType
from typing import Any

import uvicorn
from django.conf import settings
from django.db import connection
from django.utils.module_loading import autodiscover_modules

from fleet import errors, processes
from fleet.web import shared_counters, uptime

HOST = "127.0.0.1"
AGAIN_S = 1.0  # after which one that ended is replaced
STOPS = (signal.SIGTERM, signal.SIGINT)

log = logging.getLogger("fleet.web")


class Server(uvicorn.Server):
    """uvicorn's, which also notes that it answers."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._beat = asyncio.create_task(uptime.beat())


class Workers:
    """The processes that answer. Stops when it is told to, and all of them with it."""

    def __init__(self, config: uvicorn.Config, listening: socket.socket) -> None:
        self._config, self._listening = config, listening
        self._rows: dict[int, int] = {}  # by the pid, where each counts what it has open
        self._stopping = False

    def keep(self, count: int) -> None:
        """So many at all times, until SIGTERM or SIGINT."""
        for number in STOPS:
            signal.signal(number, self._stop)
        shared_counters.site.share(count)
        while self._rows or not self._stopping:
            for row in set(range(count)).difference(self._rows.values()):
                if not self._stopping:
                    self._fork(row)
            pid, status = os.wait()
            shared_counters.site.clear(self._rows.pop(pid))
            if not self._stopping:
                log.error("web worker %d ended (%s) and is replaced", pid, os.waitstatus_to_exitcode(status))
                time.sleep(AGAIN_S)

    def _fork(self, row: int) -> None:
        parent = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # or one that came now would stop all but the new one
        if pid := os.fork():
            self._rows[pid] = row
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
            return
        for number in STOPS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        processes.die_with_parent(signal.SIGKILL)
        shared_counters.site.take(row)
        if os.getppid() == parent:
            Server(self._config).run(sockets=[self._listening])
        os._exit(0)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        for pid in self._rows:
            os.kill(pid, signal.SIGTERM)


def bound(port: int) -> socket.socket:
    """Of TCP by its number: asyncio would not send small answers at once (TCP_NODELAY) where a socket leaves that open, as those
    of uvicorn do, and each would be 40 ms late."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((HOST, port))
    except OSError as fault:
        sys.exit(f"{HOST}:{port} cannot be listened on: {fault.strerror}.")
    return made


def load() -> Any:
    """The site, with all that its answers will need: loaded once for all processes, and while nobody waits for an answer.
    Each app's `preload.py` names what its answers load late."""
    from fleet.asgi import application  # noqa: PLC0415  (it sets Django up, which sends the logs where they belong)

    import_module(settings.ROOT_URLCONF)
    try:
        autodiscover_modules("preload")
    except errors.Unavailable as fault:
        log.warning("%s", fault)  # who needs it is told so, too
    connection.close()  # if an operator's module has asked Postgres: processes cannot share a way there
    connection.close_pool()  # type: ignore[attr-defined]  # Postgres's has it
    return application


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fleet.web", description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    port = parser.parse_args().port
    application = load()
    config = uvicorn.Config(
        application, host=HOST, port=port, lifespan="off", log_config=None, access_log=False, server_header=False,
        proxy_headers=False,  # which proxies are believed: fleet/limits/addresses.py
        http="fleet.web.connections:TimeoutProtocol", timeout_graceful_shutdown=5,
        ws_max_size=4_096, ws_per_message_deflate=False, ws_ping_interval=15, ws_ping_timeout=15,
    )  # fmt: skip
    config.load()
    listening = bound(port)
    gc.collect()
    gc.freeze()  # what is loaded by now is shared, as long as nobody looks through it
    Workers(config, listening).keep(settings.FLEET_WEB_WORKERS)
    os._exit(0)  # whatever thread an operator's module has started


if __name__ == "__main__":
    main()
