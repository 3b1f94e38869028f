"""Unix sockets in the fleet's private folder, which nobody but the fleet's own user can enter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from fleet.config.home import Home

_LONGEST = 100  # a socket's address holds 108 bytes, 104 on some systems


@contextmanager
def address(home: Home, name: str) -> Iterator[str]:
    """The path of the socket of that name; where that is too long, a short way to it through an open folder."""
    path = home.run / name
    if len(os.fsencode(path)) <= _LONGEST or not home.run.is_dir():
        yield str(path)
        return
    folder = os.open(home.run, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{folder}/{name}"
    finally:
        os.close(folder)
