"""The folders of the host: which ones every attempt may read, and which no mission may write to."""

from __future__ import annotations

import os
import pwd
import stat
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from fleet.host import trusted_programs

CHECKOUT = Path(__file__).resolve().parents[2]

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
# Left out without a network: systemd-resolved has sockets there, through which a workload could send data in DNS queries.
RESOLVERS = ("/run/systemd/resolve", "/run/resolvconf")
# Private mounts of the sandbox; their names are fixed by convention.
TMP, VAR_TMP, SHM = "/tmp", "/var/tmp", "/dev/shm"  # nosec B108
# Not allowed as a mission's folder: they hold files of the system or of other attempts.
SHARED = (*SYSTEM[:12], "/", "/boot", "/dev", "/home", "/proc", "/run", "/srv", "/sys", TMP, "/var", VAR_TMP)


class PathRefused(Exception):
    """A path that an attempt may not use. The text says which one, why, and what to do."""


def check_writable(folder: Path, *, hidden: Sequence[Path]) -> None:
    """Raise PathRefused if a mission may not use this folder."""
    if folder in map(Path, SHARED):
        raise PathRefused(
            f"{folder} is shared by the whole system, so no mission may write to it. Start the mission in a folder below it."
        )
    if any(path.is_relative_to(folder) for path in map(Path, SYSTEM)):
        raise PathRefused(f"{folder} contains system folders. Start the mission in a folder below it.")
    if home := next((home for home in home_folders() if home.is_relative_to(folder)), None):
        raise PathRefused(
            f"{home}, the home folder of the fleet's user, has configuration that the fleet's ssh and shells obey, so no "
            "mission may write to it. Start the mission in a project's folder below it."
        )
    closed = trusted_programs.folders_closed_to_missions()
    if used := next((path for path in closed if path.is_relative_to(folder)), None):
        raise PathRefused(
            f"{folder} contains {used}, whose programs the fleet runs. Start the mission in another folder."
        )
    if inside(folder, hidden):
        raise PathRefused(f"{folder} belongs to the fleet itself. Start the mission in another folder.")


def home_folders() -> tuple[Path, ...]:
    """The home folders of the fleet's user: that of the environment and, where ssh looks, that of the user database."""
    homes = [os.environ.get("HOME", "")]
    with suppress(KeyError):
        homes.append(pwd.getpwuid(os.geteuid()).pw_dir)
    return tuple(sorted({Path(home).resolve() for home in homes if os.path.isabs(home)}))


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
        if not inside(path, [*map(Path, SYSTEM), *roots]):
            roots.append(path)
    return tuple(roots)


def module_folders() -> tuple[Path, ...]:
    """Further folders from which the fleet's processes import modules: those of PYTHONPATH and of editable installs.

    A workload must not write to them: a module that it puts there, such as sitecustomize, would run outside the
    sandbox.
    """
    folders = {Path(path).resolve() for path in sys.path if path and os.path.isdir(path)}
    return tuple(sorted(path for path in folders if not inside(path, [*map(Path, SYSTEM), *code_folders()])))


@cache
def root_only_files() -> tuple[Path, ...]:
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


def inside(path: Path, folders: Sequence[Path]) -> bool:
    """Whether a path is one of these folders, or in one of them."""
    return any(path.is_relative_to(folder) for folder in folders)


def between(folder: Path, paths: Sequence[Path]) -> Iterator[Path]:
    """The folders between `folder` and those of `paths` that are inside it, outermost first, without both ends."""
    parents = {parent for path in paths if path.is_relative_to(folder) for parent in path.parents}
    yield from sorted(
        parent for parent in parents if parent != folder and parent.is_relative_to(folder) and not inside(parent, paths)
    )
