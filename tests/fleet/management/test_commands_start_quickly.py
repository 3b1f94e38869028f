"""A command loads only what it needs: neither the pages of the admin nor the extensions of apps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LOADED = """
import atexit, sys
sys.argv = ["manage.py", "fleet_doctor", "--help"]
atexit.register(lambda: print("loaded:", *sys.modules, file=sys.stderr))
from fleet import command_line
command_line.main()
"""


def test_a_command_loads_no_page_and_no_extension() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, timeout=60)
    modules = set(done.stderr.rpartition("loaded: ")[2].split())
    assert "missions.models" in modules
    unneeded = {"missions.admin", "missions.extensions", "checkpoints.extensions", "rest_framework_simplejwt.tokens"}
    assert not modules & unneeded
