"""Whether this host lets a driver's processes be shut off from the fleet's credentials (agents/shim/confine.py does it)."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

SHIM = Path(__file__).resolve().parent.parent / "shim" / "__main__.py"
PR_SET_DUMPABLE = 4

_REMEDY = (
    "Allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, or "
    "kernel.apparmor_restrict_unprivileged_userns=0), or run the drivers under a user of their own."
)


@cache
def available() -> tuple[bool, str]:
    """Whether it works here, tried once a process on a real folder; and if not, why and what to do."""
    with tempfile.TemporaryDirectory(prefix="fleet-sandbox-") as folder:
        secret = Path(folder) / "secret"
        secret.mkdir()
        (secret / "file").touch()
        tried = subprocess.run(
            [
                sys.executable, "-I", "-S", str(SHIM), "0", "1", "1", "1", folder, str(secret),
                "--", "/bin/sh", "-c", f"test ! -e '{secret}/file' && echo hidden >&2",
            ],
            stdin=subprocess.PIPE, capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
    if "hidden" in tried.stderr:
        return True, "Drivers' processes are shut off from the fleet's credentials."
    return False, f"Drivers' processes cannot be shut off from the fleet's credentials on this host. {_REMEDY}"


def harden_worker() -> None:
    """Make this process's environment and memory unreadable for others of the same user, sandbox or not."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
