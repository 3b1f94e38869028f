"""A fleet folder, and a worker that runs commands in the sandbox: as the current user, or under root as nobody."""

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

from tests.support.paths import CHECKOUT

NOBODY = 65534
SECRET = "the-fleets-password"
USERS = ("this user", "an ordinary user")


@dataclass
class Place:
    """A mission folder that contains the fleet's own folder, and a user whose commands run there in the sandbox."""

    root: Path
    python: str
    user: int

    @property
    def identity(self) -> dict[str, Any]:
        """The arguments with which `subprocess` runs a program as this user."""
        return {} if self.user == os.geteuid() else {"user": self.user, "group": self.user, "extra_groups": []}

    def run(self, shell: str, *, harden: bool = False, **settings: Any) -> dict[str, Any]:
        """Run a shell command in the sandbox: {ok, error, out, …}. `settings`: further settings of the attempt."""
        worker = self.start(shell, harden=harden, **settings)
        stdout, stderr = worker.communicate()
        assert worker.returncode == 0, stderr.decode()
        result: dict[str, Any] = json.loads(stdout)
        return result

    def start(self, shell: str, **settings: Any) -> subprocess.Popen[bytes]:
        """Start a shell command in the sandbox, without waiting for it."""
        request = {
            "scratch": str(self.scratch),
            "hidden": [str(self.home)],
            "writable": [str(self.root)],
            "shell": shell,
            **settings,
        }
        return subprocess.Popen(
            [self.python, "-P", "-m", "tests.agents.shim.shim_worker", json.dumps(request)],
            env={
                "PATH": os.environ["PATH"],
                "DATABASE_URL": SECRET,
                "PYTHONPATH": f"{CHECKOUT}:{sysconfig.get_path('purelib')}",
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **self.identity,
        )

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
    """A recent enough Python that the user nobody can run. That of the venv may be inside a private home folder."""
    for name in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        test = [name, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        try:
            if subprocess.run(test, user=NOBODY, group=NOBODY, extra_groups=[], check=False).returncode == 0:
                return name
        except OSError:
            continue
    return None


def places(kind: str) -> Iterator[Place]:
    """Yields a place for the user `kind` (one of USERS), and removes it afterwards. For use in a fixture."""
    user, python = os.geteuid(), sys.executable
    if kind == USERS[1]:
        if user != 0:
            pytest.skip("the current user is an ordinary user already")
        shared_python = _python_for_all()
        if shared_python is None or not os.access(CHECKOUT, os.X_OK):
            pytest.skip("an ordinary user can start no Python ≥ 3.11 on this host")
        user, python = NOBODY, shared_python
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
