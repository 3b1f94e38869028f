"""Supervisors as a user starts them: `manage.py` in processes of their own, with a private home."""

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
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from tests.support.measuring import measured
from tests.support.warm import anywhere

CHECKOUT = Path(__file__).resolve().parents[2]
_NOT_INHERITED = (
    "DATABASE_URL",
    "DATABASE_OWNER_URL",
    "REDIS_URL",
    "FLEET_REDIS_INDEX",
    "FLEET_HOME",
    "DJANGO_SETTINGS_MODULE",
)


class Checkout:
    """One home, and the commands to it. `env` is added to each of them."""

    def __init__(self, root: Path, env: Mapping[str, str] | None = None) -> None:
        self.root = root
        self.env = {
            **{name: value for name, value in os.environ.items() if name not in _NOT_INHERITED},
            "FLEET_HOME": str(root),
            **measured(),
            **(env or {}),
        }

    def manage(
        self, *arguments: str, check: bool = True, timeout: float = 40, cwd: Path = CHECKOUT
    ) -> subprocess.CompletedProcess[str]:
        done = anywhere().manage(*arguments, env=self.env, cwd=cwd, timeout=timeout)
        assert not check or done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *arguments: str, cwd: Path = CHECKOUT) -> Any:
        return json.loads(self.manage(*arguments, "--json", check=False, cwd=cwd).stdout)

    def start(self, *arguments: str, cwd: Path = CHECKOUT, **how: Any) -> subprocess.Popen[str]:
        """A command in the foreground of a terminal that is not there: end it."""
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
        program = "manage.py" if cwd == CHECKOUT else str(CHECKOUT / "manage.py")
        return subprocess.Popen([sys.executable, program, *arguments], cwd=cwd, env=self.env, text=True, **streams)

    @property
    def run(self) -> Path:
        return self.root / "private" / "run"

    def ask(self, what: dict[str, str]) -> Any:
        """The supervisor itself, without a process between; None where none listens."""
        with contextlib.suppress(OSError):
            folder = os.open(self.run, os.O_RDONLY)
            try:
                return _talk(f"/proc/self/fd/{folder}/supervisor.sock", what)
            finally:
                os.close(folder)
        return None

    def status(self) -> dict[str, Any]:
        return dict(self.ask({"do": "status"}) or {"running": False, "ready": False, "services": []})

    def service(self, name: str) -> dict[str, Any]:
        return next((dict(one) for one in self.status()["services"] if one["name"] == name), {"state": "", "pid": None})

    def until_ready(self, *, within_s: float = 30) -> dict[str, Any]:
        until(lambda: self.status()["ready"], within_s=within_s)
        return self.status()

    def urls(self) -> tuple[str, str]:
        """DATABASE_URL and REDIS_URL of the embedded services here."""
        ports = json.loads((self.root / "private" / "ports.json").read_text())
        known = self.credentials()
        return (
            f"postgresql://fleet:{known['postgres_password']}@127.0.0.1:{ports['postgres']}/fleet",
            f"redis://:{known['redis_password']}@127.0.0.1:{ports['valkey']}/0",
        )

    def credentials(self) -> dict[str, str]:
        return dict(json.loads((self.root / "private" / "credentials.json").read_text()))

    def processes(self) -> list[psutil.Process]:
        """Whatever still runs of this home: it names the home in its environment, or works below it."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                named = process.environ().get("FLEET_HOME") == str(self.root)
                if named or Path(process.cwd()).is_relative_to(self.root):
                    found.append(process)
        return found

    def left_behind(self) -> list[str]:
        """Processes, sockets and pid files. A lock file and a record of no children are neither."""
        notes = [path.name for path in self.run.iterdir() if path.suffix in {".sock", ".pid"}]
        notes += [path.name for path in self.root.glob("private/*/postmaster.pid")]
        children = self.run / "children.json"
        notes += ["children.json"] if children.exists() and json.loads(children.read_text()) else []
        return notes + [f"{process.pid} {' '.join(process.cmdline())[:80]}" for process in self.processes()]

    def remove(self) -> None:
        """Stop what a failed test left, by pid, and delete the home."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(self.processes(), timeout=5)
        shutil.rmtree(self.root, ignore_errors=True)


@contextlib.contextmanager
def checkout(*, env: Mapping[str, str] | None = None, name: str = "fleet-home-") -> Iterator[Checkout]:
    made = Checkout(Path(tempfile.mkdtemp(prefix=name)).resolve(), env)
    try:
        yield made
    finally:
        made.remove()


def until(true: Callable[[], Any], *, within_s: float = 60) -> Any:
    """Wait for something that other processes bring about; its value."""
    deadline = time.monotonic() + within_s
    while not (value := true()):
        assert time.monotonic() < deadline, f"not true within {within_s} s"
        time.sleep(0.03)
    return value


def _talk(address: str, what: dict[str, str]) -> Any:
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(10)
        line.connect(address)
        line.sendall(json.dumps(what).encode() + b"\n")
        with line.makefile() as answers:
            return json.loads(answers.readline() or "{}").get("ok")
