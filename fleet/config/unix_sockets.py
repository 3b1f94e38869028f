"""Addresses of Unix sockets, such as those in the fleet's private folder, which only the fleet's user can enter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from fleet.config.home import Home

_MAX_BYTES = 100  # bytes; the address of a socket is limited to 108, on some systems to 104


@contextmanager
def address(home: Home, name: str) -> Iterator[str]:
    """Yield the path of the socket of that name, or a short path through an open folder if the path is too long."""
    path = home.run / name
    if len(os.fsencode(path)) <= _MAX_BYTES or not home.run.is_dir():
        yield str(path)
        return
    folder = os.open(home.run, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{folder}/{name}"
    finally:
        os.close(folder)


def parse_path(text: str) -> str:
    """Parse the path of a socket. Raises ValueError, with the reason, if it is relative or too long."""
    if text and not os.path.isabs(text):
        raise ValueError("expected an absolute path, such as /run/fleet/web.sock")
    if len(os.fsencode(text)) > _MAX_BYTES:
        raise ValueError(f"the path of a Unix socket may have at most {_MAX_BYTES} bytes")
    return text
