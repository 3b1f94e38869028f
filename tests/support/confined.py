"""A fleet's folder and a worker of some user, to fly commands in the sandbox: as this user, and as nobody under root."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534
SECRET = "the-fleets-password"
USERS = ("this user", "an ordinary user")


@dataclass
class Place:
    """A mission's folder that holds the fleet's own, the scratch folder of one attempt, and a worker of some user."""

    root: Path
    python: str
    user: int

    def fly(self, shell: str, *, harden: bool = False, **more: Any) -> dict[str, Any]:
        """Run a text for the shell in the sandbox: {ok, error, out, …}. `more`: what else the attempt is given."""
        orders = {
            "scratch": str(self.scratch),
            "hidden": [str(self.home)],
            "writable": [str(self.root)],
            "shell": shell,
            "harden": harden,
            **more,
        }
        done = subprocess.run(
            [self.python, "-m", "tests.agents.shim.shim_worker", json.dumps(orders)],
            env={
                "PATH": os.environ["PATH"],
                "DATABASE_URL": SECRET,
                "PYTHONPATH": f"{ROOT}:{sysconfig.get_path('purelib')}",
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            cwd=self.root,
            user=self.user,
            group=self.user,
            extra_groups=[] if self.user else None,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    @property
    def home(self) -> Path:
        return self.root / "checkout" / ".fleet"

    @property
    def scratch(self) -> Path:
        return self.home / "scratch" / "mine"

    @property
    def hidden(self) -> Path:
        return self.home / "private"


def _python_for_all() -> str | None:
    """A Python that nobody may start and that runs our code; the venv's may lie in a home folder."""
    for name in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        test = [name, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        try:
            if subprocess.run(test, user=NOBODY, group=NOBODY, extra_groups=[], check=False).returncode == 0:
                return name
        except OSError:
            continue
    return None


def places(kind: str) -> Iterator[Place]:
    """For a fixture with the parameters USERS."""
    user, python = os.geteuid(), sys.executable
    if kind == USERS[1]:
        if user != 0:
            pytest.skip("this user is one already")
        found = _python_for_all()
        if found is None or not os.access(ROOT, os.X_OK):
            pytest.skip("no Python ≥ 3.11 on this host may be started by an ordinary user")
        user, python = NOBODY, found
    root = Path(tempfile.mkdtemp(prefix="fleet-sandbox-"))
    place = Place(root, python, user)
    for folder in (place.home, place.hidden, place.scratch.parent, place.scratch, place.home / "scratch" / "theirs"):
        folder.mkdir(mode=0o700, parents=True)
    (place.hidden / "secret").write_text(SECRET)
    (place.home / "scratch" / "theirs" / "result.json").write_text("theirs")
    if user != os.geteuid():
        for path in (root, *root.rglob("*")):
            os.chown(path, user, user)
    yield place
    shutil.rmtree(root)
