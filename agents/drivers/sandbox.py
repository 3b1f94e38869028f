"""Whether drivers' processes can be kept from the fleet's credentials on this host (how: agents/shim/confine.py)."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import tempfile
from functools import cache
from pathlib import Path

from agents.drivers.shim import Shim

PR_SET_DUMPABLE = 4
PROBE_S = 20.0

_SWITCHES = {  # what forbids namespaces, the value with which it does, and what to do about it
    "/proc/sys/kernel/unprivileged_userns_clone": ("0", "sysctl -w kernel.unprivileged_userns_clone=1"),
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
        "1",
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give Python an AppArmor profile with `userns,`",
    ),
    "/proc/sys/user/max_user_namespaces": ("0", "sysctl -w user.max_user_namespaces=10000"),
    "/proc/sys/user/max_mnt_namespaces": ("0", "sysctl -w user.max_mnt_namespaces=10000"),
}


@cache
def available() -> tuple[bool, str]:
    """Whether the sandbox works here, tried once a process; and if not, why and what to do."""
    with tempfile.TemporaryDirectory() as folder:
        secret = Path(folder, "secret")
        secret.touch()
        probe = 'test ! -e "$1" && ! cat "/proc/$2/environ" >/dev/null 2>&1'
        shim = Shim(
            ["/bin/sh", "-c", probe, "probe", str(secret), str(os.getpid())],
            env={"PATH": os.defpath},
            cwd=Path("/"),
            grace_s=1,
            confined=True,
            hidden=[Path(folder)],
        )
        select.select([shim.status], [], [], PROBE_S)
        status = shim.close(timeout_s=PROBE_S)
    if status is not None and not status["stage"] and status["code"] == 0:
        return True, ""
    if status is not None and status["stage"] == "sandbox":
        why = f"the kernel refuses namespaces to this user ({os.strerror(status['errno'])})"
    else:
        why = "a process in its own namespaces still saw what was hidden from it"
    return False, (
        f"Drivers run without a sandbox, and can read the fleet's credentials: {why}. {_remedy(status and status['errno'])}"
    )


def _remedy(number: int | None) -> str:
    for path, (forbids, remedy) in _SWITCHES.items():
        try:
            value = Path(path).read_text().strip()
        except OSError:
            continue
        if value == forbids:
            return f"To allow it: {remedy}. Or run the workers as a user who cannot read the fleet's folder."
    if number in (errno.EPERM, errno.EACCES):
        return (
            "In a container, allow it with --security-opt seccomp=unconfined, or --cap-add SYS_ADMIN. "
            "Or run the workers as a user who cannot read the fleet's folder."
        )
    return "Run the workers as a user who cannot read the fleet's folder."


def harden_worker() -> None:
    """Keep other processes of this user out of this one's environment and memory (the next best where no sandbox is).

    Programs that it starts are not affected. It holds nobody off who is root.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the process could not be made unreadable")
