"""Commands as hints name them: a line that can be pasted into the shell of whoever reads it."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from django.conf import settings

IN_THE_CHECKOUT = "./manage.py"  # which finds .venv by itself


def command(*words: str) -> str:
    """`./manage.py fleet_mission list`: that command, begun as the user began the one that is running.

    Where no user typed anything (a service, the site, an alert that is stored), it works in the checkout's folder.
    """
    return f"{prefix()} {shlex.join(words)}"


def prefix() -> str:
    """What the user typed before the name of the command."""
    script = sys.argv[0]
    if not _is_manage(script):
        return IN_THE_CHECKOUT
    if settings.FLEET_COMMAND:
        return str(settings.FLEET_COMMAND)
    if os.access(script, os.X_OK) and os.sep in script:
        return shlex.quote(_short(script))
    return shlex.join([_short(sys.orig_argv[0]), script])


def environment() -> dict[str, str]:
    """For a command that runs on behalf of this one: its hints are for the same user."""
    return {**os.environ, "FLEET_COMMAND": prefix()}


def _is_manage(script: str) -> bool:
    return os.path.realpath(script) == os.path.realpath(Path(settings.BASE_DIR) / "manage.py")


def _short(path: str) -> str:
    """A path below the current folder is written from there."""
    try:
        relative = os.path.relpath(path)
    except OSError:  # the folder is gone
        return path
    if not os.path.isabs(path) or relative.startswith(os.pardir):
        return path
    return relative if os.sep in relative else os.path.join(os.curdir, relative)
