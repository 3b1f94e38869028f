"""Formats commands for hints, so that the user can paste them into the current shell."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from django.conf import settings

IN_THE_CHECKOUT = "./manage.py"  # it finds .venv by itself


def command(*words: str) -> str:
    """Format a command: `./manage.py fleet_mission list`, with the prefix that the user typed for the current one.

    If no user typed a command (a service, the site, a stored alert), it works in the folder of the checkout.
    """
    return f"{prefix()} {shlex.join(words)}"


def prefix() -> str:
    """Return what the user typed before the name of the current command."""
    script = sys.argv[0]
    if not _is_manage(script):
        return IN_THE_CHECKOUT
    if settings.FLEET_COMMAND:
        return str(settings.FLEET_COMMAND)
    if os.access(script, os.X_OK) and os.sep in script:
        return shlex.quote(_shortened(script))
    return shlex.join([_shortened(sys.orig_argv[0]), script])


def environment() -> dict[str, str]:
    """Return the environment for a command that runs on behalf of this one, so that its hints use the same prefix."""
    return {**os.environ, "FLEET_COMMAND": prefix()}


def _is_manage(script: str) -> bool:
    return os.path.realpath(script) == os.path.realpath(Path(settings.BASE_DIR) / "manage.py")


def _shortened(path: str) -> str:
    """Make a path below the current folder relative."""
    try:
        relative = os.path.relpath(path)
    except OSError:  # the folder is gone
        return path
    if not os.path.isabs(path) or relative.startswith(os.pardir):
        return path
    return relative if os.sep in relative else os.path.join(os.curdir, relative)
