"""Every command reports in one sentence that it is interrupted, cannot write, or lacks a required service."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.config.home import Home
from tests.support.paths import CHECKOUT

NOBODY = 65534


def command(*arguments: str, home: Path, options: tuple[str, ...] = (), **how: Any) -> subprocess.Popen[str]:
    """A command in a folder where no fleet was ever started."""
    env = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
    return subprocess.Popen(
        [sys.executable, *options, str(CHECKOUT / "manage.py"), *arguments],
        env={**env, "FLEET_HOME": str(home)}, stderr=subprocess.PIPE, text=True, **how,
    )  # fmt: skip


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, text = process.communicate(timeout=60)
    return process.returncode, text


@pytest.mark.parametrize("arguments", [("fleet_status",), ("fleet_status", "--json"), ("help",)])
def test_a_full_disk_at_the_output_exits_with_1(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        code, text = end(command(*arguments, home=tmp_path / "home", stdout=full))
    assert (code, text.count("\n")) == (1, 1)
    assert text.startswith("No space left on device: ")


def test_a_closed_output_is_ignored(tmp_path: Path) -> None:
    request = command("fleet_status", "--json", home=tmp_path / "home", preexec_fn=lambda: os.close(1))
    assert end(request) == (1, "")  # as `fleet_status` exits when nothing is running


@pytest.mark.parametrize("moment", ["django.core.exceptions", "django.db.models"])
def test_ctrl_c_while_loading_prints_no_traceback(tmp_path: Path, moment: str) -> None:
    starting = command("fleet_up", home=tmp_path / "home", options=("-X", "importtime"), stdout=subprocess.DEVNULL)
    assert starting.stderr is not None
    while moment not in (line := starting.stderr.readline()):
        assert line, "the module was never loaded"
    starting.send_signal(signal.SIGINT)
    code, text = end(starting)
    assert code == 130
    assert "Traceback" not in text
    assert "KeyboardInterrupt" not in text


@pytest.mark.parametrize("name", ["fleet_node", "migrate", "showmigrations"])
def test_without_postgres_a_command_exits_with_1(tmp_path: Path, name: str) -> None:
    code, text = end(command(name, home=tmp_path / "home"))
    assert (code, text.count("\n")) == (1, 1)
    assert text.startswith("The fleet is not running here.")


def test_a_control_loop_without_postgres_says_so_and_waits_for_it(tmp_path: Path) -> None:
    waiting = command("fleet_control", home=tmp_path / "home")
    assert waiting.stderr is not None
    while "Postgres does not answer" not in (line := waiting.stderr.readline()):
        assert line, "the process has ended"
    waiting.send_signal(signal.SIGTERM)
    code, text = end(waiting)
    assert code == 0
    assert "Traceback" not in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("fleet_up", "--detach"),
        ("fleet_up",),
        ("fleet_up", "--run", "examples/repo_audit/audit.yaml", "--param", "repository=."),
        ("fleet_services", "up", "--detach"),
    ],
)
@pytest.mark.parametrize("was_started", [False, True])
def test_a_start_on_a_read_only_file_system_names_the_folder(
    tmp_path: Path, arguments: tuple[str, ...], was_started: bool
) -> None:
    if was_started:
        Home(tmp_path).create_folders()
    read_only = f'mount --bind {tmp_path} {tmp_path} && mount -o remount,bind,ro {tmp_path} && exec "$0" manage.py "$@"'
    env = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", read_only, sys.executable, *arguments],
        cwd=CHECKOUT, env={**env, "FLEET_HOME": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if "unshare" in result.stderr:
        pytest.skip("this host refuses user namespaces")
    assert result.returncode in (1, 2)
    assert result.stderr.count("\n") == 1, result.stderr
    assert str(tmp_path) in result.stderr
    assert "read-only file system" in result.stderr.lower()
    assert "FLEET_HOME" in result.stderr


@pytest.fixture
def shut() -> Iterator[Path]:
    """A folder that everybody can enter, with a folder inside that only root can enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    (folder / "shut").mkdir(mode=0o700 if os.geteuid() == 0 else 0)
    yield folder
    (folder / "shut").chmod(0o700)
    shutil.rmtree(folder)


def test_a_python_without_execute_permission_is_named(shut: Path) -> None:
    python = shutil.which("python3", path="/usr/bin:/bin")
    if not python or subprocess.run([python, "-c", "import django"], capture_output=True, check=False).returncode == 0:
        pytest.skip("this host has no Python without Django")
    shutil.copy(CHECKOUT / "manage.py", shut)
    (shut / ".venv" / "bin").mkdir(parents=True)
    (shut / ".venv" / "bin" / "python").symlink_to(shut / "shut" / "python3")
    other = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    result = subprocess.run(
        [python, str(shut / "manage.py"), "help"], cwd=shut, capture_output=True, text=True, check=False, **other
    )  # type: ignore[call-overload]
    assert result.returncode == 4
    assert result.stderr.startswith(f"You are not allowed to use {shut / 'shut' / 'python3'}, the Python of ")
