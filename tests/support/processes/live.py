"""A real web process, and clients that listen to its event streams."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from django.conf import settings
from django.db import connection

from fleet.config import ports
from fleet.events import stream
from fleet.events.models import Event
from missions.models import Mission
from tests.support import api, fleet
from tests.support.paths import CHECKOUT
from tests.support.postgres import cluster
from tests.support.waiting import until

OPTIONS = (
    "--host=127.0.0.1",
    "--lifespan=off",
    "--no-access-log",
    "--no-server-header",
    "--http=fleet.web.connections:TimeoutProtocol",
    "--log-level=info",
    "--timeout-graceful-shutdown=5",
    "--ws-max-size=4096",
    "--ws-per-message-deflate=false",
)
RUN_UVICORN = "from fleet.observability import logs; logs.enable_info(); import uvicorn; uvicorn.main()"


class Web(NamedTuple):
    """A web process on loopback, which writes its log to `log`."""

    port: int
    log: Path

    @property
    def log_text(self) -> str:
        return self.log.read_text()

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Send a request with a JSON body. Returns the status, the headers with lower-case names, and the body."""
        http_connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(http_connection):
            http_headers = {name.replace("_", "-"): value for name, value in headers.items()}
            data = None if body is None else json.dumps(body)
            http_connection.request(method, path, data, {"Content-Type": "application/json", **http_headers})
            response = http_connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


def mission_of(user: Any, team: Any = None) -> Mission:
    """Launch a mission for a user, and wait until a stream that is opened now does not include its launch.

    That is the case once no transaction of the cluster can still commit before it in the order of the stream.
    """
    mission = fleet.launch({"one": {"agent": "backend"}})
    Mission.objects.filter(id=mission.id).update(created_by=user, team=team)
    until(lambda: stream.snapshot().position.xid > Event.objects.latest("xid").xid)
    return mission


def environment() -> dict[str, str]:
    """The environment with which a process uses the test's own database."""
    endpoints = settings.FLEET_ENDPOINTS
    return {
        "DATABASE_URL": cluster.url(endpoints.postgres, database=connection.settings_dict["NAME"]),
        "REDIS_URL": endpoints.redis_url,
        "FLEET_LIVE_RECHECK_S": "1",
    }


@contextlib.contextmanager
def serving(folder: Path, env: Mapping[str, str]) -> Iterator[Web]:
    """Run a web process, which logs into `folder`; yields once it is healthy."""
    port = ports.find_free()
    log = folder / "web.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN_UVICORN, "fleet.asgi:application", f"--port={port}", *OPTIONS],
            cwd=CHECKOUT, stdout=file, stderr=file,
            env={**os.environ, **env, "DJANGO_SETTINGS_MODULE": "fleet.settings", "FLEET_PROCESS": "web"},
        )  # fmt: skip
    web = Web(port, log)
    try:
        until(lambda: _healthy(web, process))
        yield web
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _healthy(web: Web, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, web.log_text
    with contextlib.suppress(OSError, http.client.HTTPException):
        return web.request("GET", "/healthz")[0] == 200
    return False


def bearer(client: api.Client) -> dict[str, str]:
    """The headers with which a stream is opened as this client."""
    return {"Authorization": f"Bearer {client.bearer}"}


class Listener:
    """Reads server-sent events in a thread. `events` are `(id, kind, data)`; `ended` is set when the stream ends."""

    def __init__(self, web: Web, path: str, **headers: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=60)
        self._connection.request(
            "GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        self._response = self._connection.getresponse()
        self.status = self._response.status
        self.headers = {name.lower(): value for name, value in self._response.getheaders()}
        self.events: list[tuple[str, str, dict[str, Any]]] = []
        self.last_id = ""
        self.opened, self.ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        if self.status == 200:
            assert self.opened.wait(60)

    def _read(self) -> None:
        fields: dict[str, str] = {}
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError, AttributeError):
            while line := self._response.readline():
                text = line.decode().rstrip("\n")
                if text:
                    name, _, value = text.partition(": ")
                    fields[name] = value
                    continue
                self.last_id = fields.get("id", self.last_id)
                if "data" in fields:
                    self.events.append((fields["id"], fields["event"], json.loads(fields["data"])))
                fields = {}
                self.opened.set()
        self.ended.set()

    @property
    def kinds(self) -> list[str]:
        return [kind for _, kind, _ in self.events]

    def wait_for_events(self, number: int, *, within_s: float = 120) -> list[str]:
        """Wait until at least `number` events have arrived. Returns their kinds."""
        until(lambda: len(self.events) >= number, within_s=within_s, otherwise=lambda: f"only {self.kinds}")
        return self.kinds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):
            if self._connection.sock:
                self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(60)
        self._connection.close()


def run_concurrently(*actions: Callable[[], object]) -> None:
    """Run the actions concurrently, each in its own thread and with its own database connection."""

    def run(action: Callable[[], object]) -> None:
        try:
            action()
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
