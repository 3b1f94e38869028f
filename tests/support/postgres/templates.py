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
# Postgres's initdb creates the first cluster for each list of options; later ones are copies of it. The template is
# renamed when it is complete, because workers may create it at the same time.
_INITDB = """#!/bin/sh
set -eu
[ "$1" = -D ] || { echo "this initdb needs -D first" >&2; exit 1; }
data=$2
shift 2
template={folder}/initdb$(printf %s "$*" | tr -c a-zA-Z0-9 -)
if [ ! -d "$template" ]; then
    {initdb} -D "$template.$$" "$@"
    mv -T "$template.$$" "$template" 2>/dev/null || rm -rf "$template.$$"
fi
mkdir -p "$data"
exec cp -a "$template/." "$data"
"""


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


def write_initdb(path: Path) -> None:
    """Write a program that does the same as Postgres's initdb, but takes its time only once in a run."""
    folder, program = os.environ[VARIABLE], programs.postgres() / "initdb"
    path.write_text(_INITDB.replace("{folder}", folder).replace("{initdb}", str(program)))
    path.chmod(0o755)
