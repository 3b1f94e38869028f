"""Chooses the user that Postgres runs as: it refuses root, so root runs it in a user namespace or as `nobody`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from fleet import errors
from fleet.host import launch
from fleet.services.supervision.service import Identity


def launch_command(
    argv: Sequence[str], *, identity: Identity = "same", on_orphan: signal.Signals = signal.SIGTERM
) -> list[str]:
    """Wrap `argv` with launch.py: it runs as `identity` and gets the signal `on_orphan` when this process dies."""
    return [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), str(int(on_orphan)), identity, *argv]


def for_postgres(data: Path, program: Path) -> Identity:
    """Return the identity with which Postgres can use `data`; raises Unavailable if there is none."""
    if os.geteuid() != 0:
        return "same"
    if data.exists() and data.stat().st_uid == launch.NOBODY:
        return "nobody"  # the cluster was created on a host without namespaces
    if namespaces_work():
        return "namespace"
    for folder in program.parents:
        if not folder.stat().st_mode & 0o001:
            raise errors.Unavailable(
                f"Postgres refuses to run as root, this host refuses user namespaces, and only root may enter {folder}.",
                hint="Run the fleet as an ordinary user, or move it to a folder that all users may enter.",
            )
    return "nobody"


@cache
def namespaces_work() -> bool:
    """Whether this user may create a user namespace; the kernel, a container or a security module may forbid it."""
    if not sys.platform.startswith("linux"):
        return False
    program = shutil.which("true") or "/bin/true"
    return (
        subprocess.run(launch_command([program], identity="namespace"), capture_output=True, timeout=20).returncode == 0
    )


def set_owner(data: Path, identity: Identity) -> None:
    """Make `identity` the owner of an empty folder."""
    if identity == "nobody":
        os.chown(data, launch.NOBODY, launch.NOBODY)
