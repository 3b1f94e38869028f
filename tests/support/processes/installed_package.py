"""The project as an installed package: its wheel, built from the tracked files, in a virtual environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from tests.support.paths import CHECKOUT


def run(*argv: str | Path, cwd: Path, env: dict[str, str] | None = None, timeout: float = 110) -> str:
    result = subprocess.run(
        argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert result.returncode == 0, f"{argv}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def tracked(*paths: str) -> list[str]:
    """The tracked files that exist, as relative paths."""
    names = run("git", "ls-files", "--", *paths, cwd=CHECKOUT).splitlines()
    return [name for name in names if (CHECKOUT / name).is_file()]


def build_wheel(folder: Path) -> Path:
    """Build the wheel from a copy of the tracked files: a build leaves folders in its source."""
    source = folder / "source"
    for name in tracked("pyproject.toml", "README.md", "requirements", "fleet", "agents", "missions", "checkpoints"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, source / name)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"  # what pip calls
    run(sys.executable, "-c", build, folder, cwd=source)
    (wheel,) = folder.glob("fleet-*.whl")
    return wheel


class InstalledPackage:
    """A virtual environment, and a user with an empty home folder who has its programs on PATH and nothing else set."""

    def __init__(self, folder: Path) -> None:
        self.environment, self.home, self.folder = folder / "environment", folder / "home", folder / "a new fleet"
        for empty in (self.home, self.folder):
            empty.mkdir(parents=True)
        self.env = {
            "HOME": str(self.home),
            "PATH": f"{self.environment / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
        }
        self.uv("venv", "--python", sys.executable, str(self.environment))

    @property
    def python(self) -> Path:
        return self.environment / "bin" / "python"

    def uv(self, *arguments: str | Path) -> None:
        uv = Path(sys.executable).with_name("uv")
        run(uv, *arguments, "--quiet", "--no-config", cwd=CHECKOUT, env=dict(os.environ), timeout=600)

    def pip_install(self, *arguments: str | Path) -> None:
        self.uv("pip", "install", "--python", self.python, *arguments)

    def borrow_packages(self) -> None:
        """Use the packages of the tests' own environment, in which the project itself is not installed."""
        site = run(self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=self.home).strip()
        Path(site, "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")

    def fleet(
        self, *words: str, cwd: Path | None = None, check: bool = True, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        return self.shell(["fleet", *words], cwd=cwd, check=check, timeout=timeout)

    def shell(
        self, command: Sequence[str] | str, *, cwd: Path | None = None, check: bool = True, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a program, or a line as the user would paste it into a shell."""
        result = subprocess.run(
            command, shell=isinstance(command, str), cwd=cwd or self.folder, env=self.env, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        assert not check or result.returncode == 0, f"{command}: {result.returncode}\n{result.stdout}\n{result.stderr}"
        return result
