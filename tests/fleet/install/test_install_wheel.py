"""The wheel contains all that the project needs, and manage.py finds its environment through a link."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
PACKAGES = ("fleet", "agents", "missions", "checkpoints")


def run(*argv: str, cwd: Path) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_contains_every_tracked_file_of_the_packages(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    run("git", "clone", "-q", "--depth=1", f"file://{CHECKOUT}", str(clone), cwd=tmp_path)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"  # what pip calls
    run(sys.executable, "-c", build, str(tmp_path), cwd=clone)

    (wheel,) = tmp_path.glob("fleet-*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    tracked = set(run("git", "ls-files", *PACKAGES, cwd=clone).splitlines())
    assert tracked
    assert tracked - packed == set()
    assert not {name for name in packed if name.split("/")[0] in {"tests", "bench"}}


def test_a_link_to_manage_py_uses_the_environment_beside_the_file(tmp_path: Path) -> None:
    link = tmp_path / "fleet-manage"
    link.symlink_to(CHECKOUT / "manage.py")
    bare = f"import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]; sys.argv = [{str(link)!r}, 'help']"
    script = f"{bare}; import runpy; runpy.run_path({str(link)!r}, run_name='__main__')"
    assert "fleet_up" in run(sys.executable, "-S", "-c", script, cwd=tmp_path)
