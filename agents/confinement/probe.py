"""Tests whether this host allows a sandbox."""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path

from agents.confinement import bubblewrap
from agents.confinement.host_paths import PathRefused
from agents.confinement.view import View

_SWITCHES = {  # kernel setting: the value that forbids namespaces, and the remedy
    "/proc/sys/kernel/unprivileged_userns_clone": ("0", "sysctl -w kernel.unprivileged_userns_clone=1"),
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
        "1",
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give bwrap an AppArmor profile with `userns,`",
    ),
    "/proc/sys/user/max_user_namespaces": ("0", "sysctl -w user.max_user_namespaces=10000"),
    "/proc/sys/user/max_mnt_namespaces": ("0", "sysctl -w user.max_mnt_namespaces=10000"),
    "/proc/sys/user/max_pid_namespaces": ("0", "sysctl -w user.max_pid_namespaces=10000"),
}


@cache
def sandbox_problem() -> str:
    """Why the sandbox does not work on this host, and what to do; "" if it works. Tested once per process."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as descriptors:
        secret, scratch = Path(folder).resolve() / "secret", Path(folder).resolve() / "scratch"
        secret.touch()
        scratch.mkdir()
        try:
            command, inherited = bubblewrap.command(
                ["/bin/sh", "-c", 'test ! -e "$0" && test "$$" = 1', str(secret)],
                view=View(scratch=scratch),
                descriptors=descriptors,
            )
            completed = subprocess.run(
                command,
                env={},
                pass_fds=inherited,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        except (OSError, PathRefused, subprocess.SubprocessError) as error:
            return f"This host does not allow the sandbox: {error}. {_remedy()}"
    if completed.returncode == 0:
        return ""
    why = (completed.stderr.strip().splitlines() or ["the test process saw a file that should be hidden"])[-1]
    return f"This host does not allow the sandbox ({why}). {_remedy()}"


def _remedy() -> str:
    alternative = "FLEET_SANDBOX=off runs workloads without a sandbox, with all permissions of the fleet's user."
    for path, (forbids, remedy) in _SWITCHES.items():
        with suppress(OSError):
            if Path(path).read_text().strip() == forbids:
                return f"To allow it: {remedy}. {alternative}"
    return (
        "In a container, allow it with --security-opt seccomp=deploy/seccomp.json --security-opt "
        f"systempaths=unconfined (docs/containers.md). {alternative}"
    )
