"""The web process as it really runs, and clients that listen to it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import quote

from django.conf import settings
from django.db import connection

from fleet.events import stream
from fleet.events.models import Event
from missions.models import Mission
from tests.support import fleet
from tests.support.supervised import CHECKOUT, until

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
SPEAK = "from fleet.observability import logs; logs.enable_info(); import uvicorn; uvicorn.main()"


class Web(NamedTuple):
    """A web process on loopback. `said` is what it has logged."""

    port: int
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(line):
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            data = None if body is None else json.dumps(body)
            line.request(method, path, data, {"Content-Type": "application/json", **sent})
            answer = line.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()


def mission_of(user: Any, team: Any = None) -> Mission:
    """Launched, and so long ago that a stream that is opened now does not tell of it: no transaction of the cluster, whosever it
    is, could still precede it."""
    made = fleet.launch({"one": {"agent": "backend"}})
    Mission.objects.filter(id=made.id).update(created_by=user, team=team)
    until(lambda: stream.snapshot().position.xid > Event.objects.latest("xid").xid)
    return made


def inherited() -> dict[str, str]:
    return dict(os.environ)


def environment() -> dict[str, str]:
    """With which a process uses the tests' own database."""
    where = settings.FLEET_ENDPOINTS
    host = f"{where.postgres.host}:{where.postgres.port}"
    name = connection.settings_dict["NAME"]
    return {
        "DATABASE_URL": f"postgresql://{where.postgres.user}:{quote(where.postgres.password)}@{host}/{name}",
        "REDIS_URL": where.redis_url,
        "FLEET_LIVE_RECHECK_S": "1",
    }


@contextlib.contextmanager
def serving(folder: Path, env: Mapping[str, str]) -> Iterator[Web]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "web.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", SPEAK, "fleet.asgi:application", f"--port={port}", *OPTIONS],
            cwd=CHECKOUT, stdout=file, stderr=file,
            env={**os.environ, **env, "DJANGO_SETTINGS_MODULE": "fleet.settings", "FLEET_PROCESS": "web"},
        )  # fmt: skip
    made = Web(port, log)
    try:
        until(lambda: _healthy(made, process), within_s=60)
        yield made
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _healthy(web: Web, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, web.said
    with contextlib.suppress(OSError, http.client.HTTPException):
        return web.ask("GET", "/healthz")[0] == 200
    return False


class Listener:
    """Reads server-sent events in a thread. `events` are `(id, kind, data)`; `ended` is set when the stream has."""

    def __init__(self, web: Web, path: str, **headers: str) -> None:
        self._line = http.client.HTTPConnection("127.0.0.1", web.port, timeout=60)
        self._line.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        self._answer = self._line.getresponse()
        self.status = self._answer.status
        self.headers = {name.lower(): value for name, value in self._answer.getheaders()}
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
            while line := self._answer.readline():
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

    def hears(self, number: int, *, within_s: float = 60) -> list[str]:
        """The kinds, as soon as there are so many."""
        deadline = time.monotonic() + within_s
        while len(self.events) < number:
            assert time.monotonic() < deadline, f"only {self.kinds}"
            time.sleep(0.01)
        return self.kinds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *fault: object) -> None:
        with contextlib.suppress(OSError):
            if self._line.sock:
                self._line.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(60)
        self._line.close()


def at_once(*deeds: Callable[[], None]) -> None:
    """Each in a thread of its own, with a connection of its own."""

    def run(deed: Callable[[], None]) -> None:
        try:
            deed()
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(deed,)) for deed in deeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
