"""Commands and the processes of a fleet load only what they need."""

from __future__ import annotations

import subprocess
import sys

from tests.support.paths import CHECKOUT

LOADED = """
import atexit, sys
atexit.register(lambda: print("loaded:", *sys.modules, file=sys.stderr))
"""
A_COMMAND = """
sys.argv = ["manage.py", "fleet_doctor", "--help"]
from fleet import command_line
command_line.main()
"""
REGISTRATIONS = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "fleet.settings"
import django
django.setup()
from fleet import registrations
registrations.load()
"""


def modules_after(code: str) -> set[str]:
    result = subprocess.run(
        [sys.executable, "-c", LOADED + code], cwd=CHECKOUT, capture_output=True, text=True, timeout=60
    )
    modules = set(result.stderr.rpartition("loaded: ")[2].split())
    assert "missions.models" in modules, result.stderr
    return modules


def test_a_command_loads_neither_pages_nor_registrations() -> None:
    pages = {"missions.admin", "rest_framework_simplejwt.tokens"}
    assert not modules_after(A_COMMAND) & {*pages, "missions.registrations", "checkpoints.registrations"}


def test_the_registrations_of_the_apps_load_nothing_of_the_api() -> None:
    modules = modules_after(REGISTRATIONS)
    assert {"missions.registrations", "checkpoints.registrations"} <= modules
    assert not modules & {"rest_framework.views", "drf_spectacular.plumbing", "missions.admin"}
