"""Symbolic links that a workload may have put into the path of a folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

MAX_LINKS = 40  # in one path, as in the kernel


class UntrustedLink(OSError):
    """A link that a workload may have put there; `filename` is its path."""

    def __init__(self, link: Path) -> None:
        super().__init__(errno.ELOOP, os.strerror(errno.ELOOP), str(link))


def resolve(path: Path, *, trusts: Callable[[Path], bool]) -> Path:
    """An absolute path without its symbolic links. It need not exist.

    Raises UntrustedLink for the first link that `trusts` does not accept.
    """
    current, rest, links = Path("/"), [*reversed(path.parts[1:])], 0
    while rest:
        part = rest.pop()
        if part == "..":
            current = current.parent
            continue
        candidate = current / part
        if not candidate.is_symlink():
            current = candidate
            continue
        links += 1
        if links > MAX_LINKS or not trusts(candidate):
            raise UntrustedLink(candidate)
        target = Path(os.readlink(candidate))
        parts = target.parts
        if target.is_absolute():
            current, parts = Path("/"), parts[1:]
        rest += reversed(parts)
    return current
