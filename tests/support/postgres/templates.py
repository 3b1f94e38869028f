"""An empty database cluster to copy, because initdb takes seconds. The first process of a test run creates it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from fleet.config import credentials, programs
from fleet.config.home import Home
from fleet.services.providers import embedded

VARIABLE = "TESTS_TEMPLATE_HOME"  # tells the workers of pytest-xdist where it is


def create() -> None:
    home = Home(Path(tempfile.mkdtemp(prefix="fleet-template-")))
    secrets = credentials.ensure(home)
    embedded.create_cluster(home.private / embedded.DATA, programs.postgres(), secrets)
    os.environ[VARIABLE] = str(home.root)


def remove() -> None:
    if root := os.environ.pop(VARIABLE, None):
        shutil.rmtree(root, ignore_errors=True)


def copy(home: Home) -> None:
    """Give a new home the cluster and the credentials of the template, if there is one."""
    if root := os.environ.get(VARIABLE):
        home.create_folders()
        subprocess.run(["cp", "-a", f"{Home(Path(root)).private}/.", home.private], check=True)
