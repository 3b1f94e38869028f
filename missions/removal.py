"""Removes folders of workloads, which may be deep, inaccessible (chmod 0) or full of symbolic links."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path


def remove(folder: Path) -> None:
    """Remove a folder as far as possible. Never raises."""
    with suppress(RecursionError):  # the folders may be nested deeper than Python recurses
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():  # it was too deep, or contains an inaccessible folder
        with suppress(OSError):
            _remove_flat(folder)


def _remove_flat(folder: Path) -> None:
    """Remove a folder of any depth. Does not follow symbolic links.

    Each subfolder is moved to the top before it is emptied, so that neither paths nor the recursion get deep.
    """
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
    """Unlink the files of a folder and move its subfolders to the top. Returns their new names."""
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
    """Open a folder after making it readable and writable for its owner. Does not follow symbolic links."""
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    try:
        os.chmod(f"/proc/self/fd/{descriptor}", 0o700)  # fchmod(2) does not take an O_PATH descriptor
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=descriptor)
    finally:
        os.close(descriptor)
