"""manage.py finds its environment through a link, and .venv/bin/fleet is such a link."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.paths import CHECKOUT
from tests.support.processes.installed_package import run


@pytest.mark.parametrize("name, command", [("fleet-manage", "fleet_up"), ("fleet", "up")])
def test_a_link_to_manage_py_uses_the_environment_beside_the_file(name: str, command: str, tmp_path: Path) -> None:
    link = tmp_path / name
    link.symlink_to(CHECKOUT / "manage.py")
    bare = f"import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]; sys.argv = [{str(link)!r}, 'help']"
    script = f"{bare}; import runpy; runpy.run_path({str(link)!r}, run_name='__main__')"
    assert f" {command} " in run(sys.executable, "-S", "-c", script, cwd=tmp_path).replace("\n", " ")
