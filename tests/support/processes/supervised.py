"""Real fleets with a private home: runs `manage.py` in separate processes, as a user does."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
from psycopg.conninfo import make_conninfo

from fleet.config import credentials, datastores
from fleet.config.env import Environment
from fleet.config.home import Home
from tests.support.paths import CHECKOUT
from tests.support.postgres import templates
from tests.support.processes import child_coverage, warm
from tests.support.waiting import until

_NOT_INHERITED = (
    "DATABASE_URL",
    "DATABASE_OWNER_URL",
    "DATABASE_DIRECT_URL",
    "REDIS_URL",
    "FLEET_REDIS_INDEX",
    "FLEET_HOME",
    "DJANGO_SETTINGS_MODULE",
)


class Checkout:
    """One fleet home, and the commands that use it. `env` is added to the environment of each command."""

    def __init__(self, root: Path, env: Mapping[str, str] | None = None) -> None:
        self.root = root
        self.env = {
            **{name: value for name, value in os.environ.items() if name not in _NOT_INHERITED},
            "FLEET_HOME": str(root),
            **child_coverage.environment(),
            **(env or {}),
        }

    def manage(
        self, *arguments: str, check: bool = True, timeout: float = 120, cwd: Path = CHECKOUT
    ) -> subprocess.CompletedProcess[str]:
        process = warm.shared().manage(*arguments, env=self.env, cwd=cwd, timeout=timeout)
        assert not check or process.returncode == 0, (
            f"{arguments}: {process.returncode}\n{process.stdout}\n{process.stderr}"
        )
        return process

    def json(self, *arguments: str, cwd: Path = CHECKOUT) -> Any:
        return json.loads(self.manage(*arguments, "--json", check=False, cwd=cwd).stdout)

    def start(self, *arguments: str, cwd: Path = CHECKOUT, **popen_options: Any) -> subprocess.Popen[str]:
        """Start a command in the foreground, without a terminal. The caller must end it. See Popen for the options."""
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen_options}
        program = "manage.py" if cwd == CHECKOUT else str(CHECKOUT / "manage.py")
        return subprocess.Popen([sys.executable, program, *arguments], cwd=cwd, env=self.env, text=True, **streams)

    @property
    def run(self) -> Path:
        return self.root / "private" / "run"

    def request(self, request: dict[str, str]) -> Any:
        """The supervisor's response to a request over its socket; None if no supervisor listens."""
        with contextlib.suppress(OSError):
            folder = os.open(self.run, os.O_RDONLY)
            try:
                return _request(f"/proc/self/fd/{folder}/supervisor.sock", request)
            finally:
                os.close(folder)
        return None

    def status(self) -> dict[str, Any]:
        return dict(self.request({"do": "status"}) or {"running": False, "ready": False, "services": []})

    def service(self, name: str) -> dict[str, Any]:
        return next((dict(row) for row in self.status()["services"] if row["name"] == name), {"state": "", "pid": None})

    def until_ready(self, *, within_s: float = 120) -> dict[str, Any]:
        until(lambda: self.status()["ready"], within_s=within_s)
        return self.status()

    def addresses(self) -> tuple[str, str]:
        """The addresses of the embedded services: of Postgres for psycopg, and of Valkey for redis-py."""
        home = Home(self.root)
        endpoints = datastores.resolve(
            Environment({**self.env, "FLEET_SERVICES": "embedded"}), home, credentials.ensure(home)
        )
        at = endpoints.postgres
        database = make_conninfo(host=at.host, port=at.port, user=at.user, password=at.password, dbname=at.name)
        return database, endpoints.redis_url

    def credentials(self) -> dict[str, str]:
        return dict(json.loads((self.root / "private" / "credentials.json").read_text()))

    def processes(self) -> list[psutil.Process]:
        """The processes of this home: those with FLEET_HOME set to it, or with a working directory below it."""
        matches = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                has_home = process.environ().get("FLEET_HOME") == str(self.root)
                if has_home or Path(process.cwd()).is_relative_to(self.root):
                    matches.append(process)
        return matches

    def left_behind(self) -> list[str]:
        """Remaining processes, sockets, pid files, and a children record unless it is empty. A lock file may stay."""
        leftovers = [path.name for path in self.run.iterdir() if path.suffix in {".sock", ".pid"}]
        leftovers += [path.name for path in self.root.glob("private/*/postmaster.pid")]
        children = self.run / "children.json"
        leftovers += ["children.json"] if children.exists() and json.loads(children.read_text()) else []
        return leftovers + [f"{process.pid} {' '.join(process.cmdline())[:80]}" for process in self.processes()]

    def remove(self) -> None:
        """Kill the processes that a failed test left behind, and delete the home."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(self.processes(), timeout=5)
        shutil.rmtree(self.root, ignore_errors=True)


@contextlib.contextmanager
def checkout(
    *, env: Mapping[str, str] | None = None, name: str = "fleet-home-", empty: bool = False
) -> Iterator[Checkout]:
    """A checkout with a new home, which is removed afterwards. Unless `empty`, it has an empty database cluster."""
    new_checkout = Checkout(Path(tempfile.mkdtemp(prefix=name)).resolve(), env)
    if not empty and "DATABASE_URL" not in (env or {}):
        templates.copy(Home(new_checkout.root))
    try:
        yield new_checkout
    finally:
        new_checkout.remove()


def _request(address: str, request: dict[str, str]) -> Any:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(address)
        client.sendall(json.dumps(request).encode() + b"\n")
        with client.makefile() as responses:
            return json.loads(responses.readline() or "{}").get("ok")
