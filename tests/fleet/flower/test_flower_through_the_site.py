"""The real Flower behind the real site: it shows agents by name, and the outcome of messages."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.conf import settings

from agents import queries
from agents.models import AgentType
from fleet.config import ports
from fleet.flower import client
from fleet.web import policies
from missions.models import Sortie
from tests.support import fleet, web
from tests.support.paths import CHECKOUT
from tests.support.waiting import until

pytestmark = [pytest.mark.xdist_group("flower"), pytest.mark.django_db(transaction=True, serialized_rollback=True)]

AGENT = "backend-1@flowerbed"
TABLE = "draw=1&start=0&length=10&order[0][column]=0&order[0][dir]=asc&columns[0][data]=name&search[value]="


@dataclass
class Site:
    port: int
    cookies: str
    flower: subprocess.Popen[bytes]

    def request(self, path: str, *, data: str | None = None, **headers: str) -> tuple[int, Message, bytes]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=data.encode() if data is not None else None,
            headers={"Cookie": self.cookies, **{name.replace("_", "-"): value for name, value in headers.items()}},
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, response.headers, response.read()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.headers, refusal.read()

    def json(self, path: str) -> Any:
        return json.loads(self.request(path)[2])


@pytest.fixture
def site(subprocess_environment: dict[str, str]) -> Iterator[Site]:
    port = ports.find_free()
    env = {**subprocess_environment, "DJANGO_SETTINGS_MODULE": "fleet.settings"}
    node = {"FLEET_NODE": "flowerbed", "FLEET_GRACE_S": "1", "FLEET_DRAIN_S": "1"}
    node["FLEET_POLL_INTERVAL_S"] = "60"  # agents claim only when they get a hint, which is what these tests check
    AgentType.objects.exclude(name="backend").update(agents=0)
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, **more: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen([sys.executable, *arguments], cwd=CHECKOUT, env={**env, **more})
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)
            return process

        flower = start("-m", "fleet.flower")
        start("manage.py", "fleet_node", **node)
        start("-m", "uvicorn", "fleet.asgi:application", f"--port={port}", "--lifespan=off", "--log-level=error")
        signed_in = web.superuser().cookies[settings.SESSION_COOKIE_NAME].value
        site = Site(port, f"{settings.SESSION_COOKIE_NAME}={signed_in}", flower)
        until(lambda: _answers(site))
        yield site


def _answers(site: Site) -> bool:
    try:
        return site.request("/flower/static/favicon.ico")[0] == 200
    except OSError:
        return False


def test_superusers_see_agents_and_messages_and_nobody_else_does(site: Site) -> None:
    until(lambda: AGENT in site.json("/flower/api/workers?refresh=1"))
    assert {agent.name for agent in queries.live()} == {AGENT}
    until(lambda: AGENT.encode() in site.request("/flower/")[2])
    status, headers, page = site.request("/flower/")
    assert status == 200
    assert b'src="/flower/static/' in page
    assert b'<a href="/admin/"' in page
    assert b"not sorties." in page
    assert b"not sorties." in site.request("/flower/tasks", Accept_Encoding="gzip")[2]
    assert "Set-Cookie" not in headers
    assert headers["Cache-Control"] == "private, no-store"
    assert site.request(f"/flower/worker/{AGENT}")[0] == 200
    assert site.request("/flower/broker")[0] == 200
    scripts = re.findall(rb"<script(?![^>]*src=)[^>]*>(.*?)</script>", page, re.DOTALL)
    digests = {base64.b64encode(hashlib.sha256(script).digest()).decode() for script in scripts}
    assert {f"'sha256-{digest}'" for digest in digests} == {policies.FLOWER_SCRIPT}
    script = site.request("/flower/static/js/flower.js")
    assert script[0] == 200
    assert site.request("/flower/static/js/flower.js", If_None_Match=script[1]["Etag"])[0] == 304

    mission = fleet.launch({"count": {}})
    sortie = Sortie.objects.get(mission=mission)
    until(lambda: _hint_for(site, sortie).get("state") == "SUCCESS")
    task = _hint_for(site, sortie)
    assert task["worker"] == AGENT
    assert f"ran 1: 1 succeeded ({sortie.ref})" in task["result"]
    assert fleet.states(mission.id) == {"count": "succeeded"}

    mission = fleet.launch({"bad": {"with": {"fail": "it broke"}}})
    sortie = Sortie.objects.get(mission=mission)
    until(lambda: _hint_for(site, sortie).get("state") == "FAILURE")
    assert f"ran 1: 1 failed ({sortie.ref})" in _hint_for(site, sortie)["exception"]
    assert fleet.states(mission.id) == {"bad": "failed"}

    response = site.request(
        "/flower/tasks/datatable", data=TABLE, Origin=f"http://127.0.0.1:{site.port}", Sec_Fetch_Site="same-origin"
    )
    assert response[0] == 200, response
    assert {item["name"] for item in json.loads(response[2])["data"]} == {"missions.fly"}
    forged = site.request(
        "/flower/tasks/datatable", data=TABLE, Origin="http://example.org", Sec_Fetch_Site="cross-site"
    )
    assert forged[0] == 403

    run = settings.FLEET_HOME.run
    assert stat.S_IMODE(run.parent.stat().st_mode) == 0o700
    process = psutil.Process(site.flower.pid)
    assert not [connection for connection in process.net_connections() if connection.status == psutil.CONN_LISTEN]
    secret = settings.FLEET_CREDENTIALS.flower_password
    assert secret not in " ".join(process.cmdline()) + page.decode()
    assert _straight(run, "/flower/") == 401
    assert _straight(run, "/flower/metrics") == 200  # open to anyone who can connect, so only the site can connect
    assert site.request("/flower/metrics")[0] == 404
    # It is also read-only, even for someone who reaches the socket with the password.
    shutdown = client.send_request(
        home=settings.FLEET_HOME,
        credentials=settings.FLEET_CREDENTIALS,
        method="POST",
        target=f"/flower/api/worker/shutdown/{AGENT}",
        headers={"Content-Length": "0"},
    )
    assert shutdown.status == 403
    shutdown.body.close()

    site.flower.terminate()
    site.flower.wait(60)
    assert not (run / client.SOCKET).exists()
    assert site.request("/flower/")[0] == 502


def _hint_for(site: Site, sortie: Sortie) -> dict[str, Any]:
    """The task in Flower that names the sortie. Other tests may have left hints in the queue."""
    found = site.json("/flower/api/tasks").values()
    return next((dict(item) for item in found if sortie.ref in str(item["kwargs"])), {})


def _straight(run: Path, path: str) -> int:
    """The status for a client without credentials that can open the socket."""
    with socket.socket(socket.AF_UNIX) as line:
        folder = os.open(run, os.O_RDONLY)
        try:
            line.connect(f"/proc/self/fd/{folder}/{client.SOCKET}")
        finally:
            os.close(folder)
        line.settimeout(10)
        line.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        return int(line.recv(64).split()[1])
