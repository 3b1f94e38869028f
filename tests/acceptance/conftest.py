"""A whole fleet for the acceptance tests, started as a user would start it, in its own folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleet.config import ports
from fleet.config.home import Home
from tests.support.documented_client import DocumentedClient
from tests.support.paths import CHECKOUT
from tests.support.postgres import templates
from tests.support.processes import child_coverage, warm
from tests.support.waiting import until

PASSWORD = "a long enough password"
START_S = 200  # longer than `fleet_up` waits before it reports what is missing


@dataclass(frozen=True)
class Fleet:
    """A running fleet, and the commands that control it."""

    home: Path
    env: dict[str, str]
    warm_process: warm.WarmProcess | None = None

    def manage(
        self,
        *arguments: str,
        check: bool = True,
        timeout: float = 120,
        env: Mapping[str, str] | None = None,
        cwd: Path = CHECKOUT,
    ) -> subprocess.CompletedProcess[str]:
        if self.warm_process and env is None:
            result = self.warm_process.manage(*arguments, cwd=cwd, timeout=timeout)
        else:
            result = warm.shared().manage(*arguments, env={**self.env, **(env or {})}, cwd=cwd, timeout=timeout)
        assert not check or result.returncode == 0, (
            f"{arguments}: {result.returncode}\n{result.stdout}\n{result.stderr}"
        )
        return result

    def json(self, *arguments: str, cwd: Path = CHECKOUT) -> Any:
        return json.loads(self.manage(*arguments, "--json", cwd=cwd).stdout)

    def launch(self, plan: dict[str, Any], *arguments: str, folder: Path | None = None) -> str:
        """Launch a plan in a folder that its work may write to (default: the home). Returns its id without waiting."""
        path = self.home / "plan.json"
        path.write_text(json.dumps({"mission": "A test", **plan}))
        return str(self.json("fleet_mission", "run", str(path), "--detach", *arguments, cwd=folder or self.home)["id"])

    def wait(self, mission: str, *, seconds: float = 120) -> dict[str, Any]:
        """Watch a mission until it ends. Returns the output of `show`."""
        self.manage("fleet_mission", "watch", mission, "--timeout", str(seconds), check=False, timeout=seconds + 15)
        document: dict[str, Any] = self.json("fleet_mission", "show", mission)
        return document

    @property
    def api(self) -> str:
        return str(self.json("fleet_status")["urls"]["api"])

    def sign_up(self, name: str) -> DocumentedClient:
        """Create a user. Returns a client that is signed in as that user."""
        completed = subprocess.run(
            [sys.executable, "manage.py", "fleet_user", "create", name],
            cwd=CHECKOUT, env=self.env, input=f"{PASSWORD}\n", capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        assert completed.returncode == 0, completed.stderr
        client = DocumentedClient(self.api)
        client.sign_in(name, PASSWORD)
        return client

    def agent(self, agent_type: str) -> dict[str, Any]:
        (found,) = [item for item in self.json("fleet_agents", "list") if item["type"] == agent_type]
        return dict(found)


@contextmanager
def running(*, restored_from: Path | None = None, **more: str) -> Iterator[Fleet]:
    """A fleet with short intervals and these variables, optionally restored from a backup."""
    home = Path(tempfile.mkdtemp(prefix="fleet acceptance "))
    if restored_from is None:
        templates.copy(Home(home / ".fleet"))
    env = {
        **{name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}},
        "FLEET_HOME": str(home / ".fleet"),
        # No fleet beside this one prefers the same port, so none takes it while this one is down.
        "FLEET_WEB_PORT": str(ports.find_free()),
        "FLEET_LEASE_S": "4",
        "FLEET_RENEW_S": "0.3",
        "FLEET_HEARTBEAT_S": "0.5",
        "FLEET_GRACE_S": "1",
        "FLEET_SCRIPTED_DRIVER": "yes",
        **more,
    }
    cold = Fleet(home, env)
    try:
        if restored_from is not None:
            cold.manage("fleet_backup", "restore", str(restored_from), timeout=90)
        cold.manage("fleet_up", "--detach", timeout=START_S, env=child_coverage.environment())
        warm_process = warm.WarmProcess(env)  # the settings connect to the services
        warm_fleet = Fleet(home, env, warm_process)
        until(lambda: len([a for a in warm_fleet.json("fleet_agents", "list") if a["state"] in ("idle", "busy")]) == 6)
        yield warm_fleet
        warm_process.stop()
    finally:
        cold.manage("fleet_down", check=False, timeout=90)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    with running() as started:
        yield started
