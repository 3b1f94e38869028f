"""As whom Postgres runs: it refuses root, so under root it is called nobody, by a namespace or in earnest."""

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
from fleet.services.supervision import launch
from fleet.services.supervision.service import Identity


def launched(
    argv: Sequence[str], *, identity: Identity = "same", on_orphan: signal.Signals = signal.SIGTERM
) -> list[str]:
    """The argv that starts `argv` through launch.py as a child of this process."""
    return [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), str(int(on_orphan)), identity, *argv]


def for_postgres(data: Path, program: Path) -> Identity:
    """Whom to run Postgres as, so that it may use `data`; Unavailable where there is no way."""
    if os.geteuid() != 0:
        return "same"
    if data.exists() and data.stat().st_uid == launch.NOBODY:
        return "nobody"  # begun so on a host without namespaces
    if namespaces_work():
        return "namespace"
    for folder in program.parents:
        if not folder.stat().st_mode & 0o001:
            raise errors.Unavailable(
                f"Postgres refuses to run as root, this host refuses namespaces, and only root may enter {folder}.",
                hint="Run the fleet as an ordinary user, or move it to a folder that everybody may enter.",
            )
    return "nobody"


@cache
def namespaces_work() -> bool:
    """Whether this host lets this user make a user namespace (kernel, container and security module permitting)."""
    if not sys.platform.startswith("linux"):
        return False
    program = shutil.which("true") or "/bin/true"
    return subprocess.run(launched([program], identity="namespace"), capture_output=True, timeout=20).returncode == 0


def give(data: Path, identity: Identity) -> None:
    """Let the identity own an empty folder that it is about to fill."""
    if identity == "nobody":
        os.chown(data, launch.NOBODY, launch.NOBODY)
