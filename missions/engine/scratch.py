"""The folders in which attempts work: one each, named by its marker, and gone with it."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from django.conf import settings

from fleet import errors, ids
from missions.models import Sortie


def path(marker: str) -> Path:
    return settings.FLEET_HOME.scratch / marker.replace("/", "-")


def outbox(marker: str) -> Path:
    """Where copies of its outputs lie until they are stored; the attempt itself does not see it."""
    return settings.FLEET_HOME.outbox / marker.replace("/", "-")


def make(folder: Path) -> None:
    """An empty folder, whatever was there."""
    remove(folder)
    folder.mkdir(mode=0o700, parents=True)


def remove(folder: Path) -> None:
    """Remove it as far as it can be, whatever the work has left in it. Raises nothing."""
    with suppress(RecursionError):  # the work has nested folders deeper than Python recurses
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():  # that, or it has shut one to itself (chmod 0)
        with suppress(OSError):
            _remove_flat(folder)


def _remove_flat(folder: Path) -> None:
    """Remove a folder that may be nested without end: each folder below is moved to the top before it is emptied, so
    that no path and no recursion becomes long. No link is followed."""
    top = _open_as_own(str(folder))
    try:
        pending = _empty(top, top)
        while pending:
            name = pending.pop()
            with suppress(OSError):
                below = _open_as_own(name, at=top)
                try:
                    pending += _empty(below, top)
                finally:
                    os.close(below)
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(folder)


def _empty(folder: int, top: int) -> list[str]:
    """Unlink the files of a folder and move its folders to the top; the names that these have there."""
    moved = []
    with os.scandir(folder) as entries:
        for entry in list(entries):
            with suppress(OSError):
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.name, dir_fd=folder)
                    continue
                os.close(_open_as_own(entry.name, at=folder))
                name = secrets.token_hex(16)
                os.rename(entry.name, name, src_dir_fd=folder, dst_dir_fd=top)
                moved.append(name)
    return moved


def _open_as_own(path: str, at: int | None = None) -> int:
    """A descriptor of a folder, which its owner may list and change from now on."""
    found = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    try:
        os.chmod(f"/proc/self/fd/{found}", 0o700)  # fchmod(2) takes no such descriptor
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=found)
    finally:
        os.close(found)


def sweep() -> int:
    """Remove the folders of attempts that do not run any more: those whose agents were killed. Returns how many."""
    found = {folder: named for folder in _folders() if (named := _attempt(folder.name)) is not None}
    sorties = {sortie for sortie, _ in found.values()}
    running = set(Sortie.objects.filter(id__in=sorties, state="running").values_list("id", "attempt"))
    ended = [folder for folder, named in found.items() if named not in running]
    for folder in ended:
        remove(folder)
    return len(ended)


def _folders() -> list[Path]:
    """Listed before it is asked which attempts run: who makes a folder runs already."""
    found: list[Path] = []
    for home in (settings.FLEET_HOME.scratch, settings.FLEET_HOME.outbox):
        with suppress(FileNotFoundError):
            found += home.iterdir()
    return found


def _attempt(name: str) -> tuple[UUID, int] | None:
    """The sortie and attempt that a folder is named for; None where it is none of ours."""
    sortie, _, number = name.rpartition("-")
    try:
        return ids.decode(ids.SORTIE, sortie), int(number)
    except (errors.FleetError, ValueError):
        return None
