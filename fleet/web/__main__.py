"""`python -m fleet.web --port N`: the site, served by FLEET_WEB_WORKERS processes that share a port, on the loopback.

With `--listener FD` it gets a listening socket from the process that starts it, which keeps the port while the site
restarts. Otherwise a workload could listen there meanwhile, and get the passwords and tokens of the site's clients.

With FLEET_WEB_SOCKET they also serve a Unix socket, for a proxy on this host: a workload can connect to the port and
claim any client address, but cannot see the socket.

A Python process uses one core. The first process loads the site and forks the workers, which share its memory, serve
requests and end with it. It only replaces workers that die. uvicorn can start several processes too, but it loads the
site in each of them, and leaves them and the port behind when it is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from django.conf import settings
from django.db import connection
from django.utils.module_loading import autodiscover_modules

from fleet import errors
from fleet.host import launch
from fleet.web import shared_counters, uptime

HOST = "127.0.0.1"  # unless --host says otherwise, as in a container
RESTART_DELAY_S = 1.0  # before a dead worker is replaced
BACKLOG = 2_048  # connections that the kernel accepts before a process does
SOCKET_MODE = 0o660
ACCEPTS_AT_ONCE = 1  # otherwise the first process that wakes would accept a whole burst
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

log = logging.getLogger("fleet.web")


class Server(uvicorn.Server):
    """uvicorn's server, which also records that the site is up, and leaves its share of a burst to other processes."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(BACKLOG)  # asyncio has set it to ACCEPTS_AT_ONCE
        self._beat = asyncio.create_task(uptime.keep_recording())


class Workers:
    """The worker processes. SIGTERM or SIGINT stops them all."""

    def __init__(self, config: uvicorn.Config, listeners: Sequence[socket.socket]) -> None:
        self._config, self._listeners = config, list(listeners)
        self._rows: dict[int, int] = {}  # pid to row of the shared counters
        self._stopping = False

    def run(self, count: int) -> None:
        """Keep `count` workers running until SIGTERM or SIGINT."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._stop)
        shared_counters.site.allocate(count)
        while self._rows or not self._stopping:
            for row in set(range(count)).difference(self._rows.values()):
                if not self._stopping:
                    self._fork(row)
            pid, status = os.wait()
            if (ended_row := self._rows.pop(pid, None)) is None:
                continue  # an orphan that this process adopted: in a container it is the init process
            shared_counters.site.clear(ended_row)
            if not self._stopping:
                log.error("web worker %d ended (%s) and is replaced", pid, os.waitstatus_to_exitcode(status))
                time.sleep(RESTART_DELAY_S)

    def _fork(self, row: int) -> None:
        parent = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # a signal now would stop all workers except the new one
        if pid := os.fork():
            self._rows[pid] = row
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            return
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        launch.die_with_parent(signal.SIGKILL)
        shared_counters.site.use_row(row)
        if os.getppid() == parent:
            Server(self._config).run(sockets=self._listeners)
        os._exit(0)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        for pid in self._rows:
            os.kill(pid, signal.SIGTERM)


def listening_socket(port: int, *, host: str = HOST) -> socket.socket:
    """A bound socket with an explicit protocol number.

    asyncio sets TCP_NODELAY only on sockets that name IPPROTO_TCP. uvicorn's own do not, which delays small responses
    by 40 ms.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    drop_unread_data(listener)
    try:
        listener.bind((host, port))
    except OSError as error:
        sys.exit(f"Cannot listen on {host}:{port}: {error.strerror}. Choose another port with --port.")
    return listener


def drop_unread_data(listener: socket.socket) -> None:
    """Have the kernel drop data that a client no longer reads. Otherwise a closed connection keeps it for minutes.

    Connections inherit this option.
    """
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(settings.FLEET_HTTP_TIMEOUT_S * 1_000))


def unix_listener(path: str) -> socket.socket:
    """A bound Unix socket, to which the fleet's user and group can connect. Replaces one that nothing listens on."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(FileNotFoundError):
            try:
                probe.connect(path)
            except ConnectionRefusedError:  # left by a process that was killed
                os.unlink(path)
        listener.bind(path)
        os.chmod(path, SOCKET_MODE)
    except OSError as error:
        sys.exit(f"Cannot listen on {path}: {error.strerror or error}. Set FLEET_WEB_SOCKET to another path.")
    return listener


def load() -> Any:
    """Load the site, with everything that its responses need, once for all processes and before the first request.

    Each app's `preload.py` imports what its responses would import late.
    """
    from fleet.asgi import application  # noqa: PLC0415  (it sets up Django, and with it logging)

    import_module(settings.ROOT_URLCONF)
    try:
        autodiscover_modules("preload")
    except errors.Unavailable as error:
        log.warning("%s", error)  # requests that need the service report it too
    connection.close()  # an operator's module may have connected to Postgres; processes cannot share a connection
    connection.close_pool()  # type: ignore[attr-defined]  # only the Postgres backend has it
    return application


def configuration(application: Any, *, port: int, host: str = HOST) -> uvicorn.Config:
    return uvicorn.Config(
        application, host=host, port=port, lifespan="off", log_config=None, access_log=False, server_header=False,
        proxy_headers=False,  # trusted proxies: fleet/limits/addresses.py
        http="fleet.web.connections:TimeoutProtocol", timeout_graceful_shutdown=5,
        backlog=ACCEPTS_AT_ONCE, ws_max_size=4_096, ws_per_message_deflate=False, ws_ping_interval=15, ws_ping_timeout=15,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fleet.web", description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--host", default=HOST, help="the IPv4 address to listen on")
    parser.add_argument("--listener", type=int, metavar="FD", help="use this listening TCP socket instead")
    options = parser.parse_args()
    application = load()
    if options.listener is None:
        listener = listening_socket(options.port, host=options.host)
    else:
        listener = socket.socket(fileno=options.listener)
        listener.set_inheritable(False)
        drop_unread_data(listener)
    host, port = listener.getsockname()[:2]
    config = configuration(application, port=port, host=host)
    config.load()
    listeners = [listener]
    if settings.FLEET_WEB_SOCKET:
        listeners.append(unix_listener(settings.FLEET_WEB_SOCKET))
    gc.collect()
    gc.freeze()  # keeps the garbage collector off the loaded objects, so that their memory stays shared
    Workers(config, listeners).run(settings.FLEET_WEB_WORKERS)
    if settings.FLEET_WEB_SOCKET:
        Path(settings.FLEET_WEB_SOCKET).unlink(missing_ok=True)
    os._exit(0)  # even if an operator's module has started a thread


if __name__ == "__main__":
    main()
