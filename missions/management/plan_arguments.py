"""Arguments of commands that launch plans: the file of a plan, the folder of a launch, and durations."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentTypeError
from pathlib import Path

from django.conf import settings

from fleet import errors
from fleet.console import arguments
from missions.plan import durations


def read(name: str) -> bytes:
    """The plan's bytes, from a file or standard input (`-`); one more than the limit if it is too long."""
    limit = settings.FLEET_PLAN_BYTES + 1
    if name == "-":
        return sys.stdin.buffer.read(limit)
    try:
        with Path(name).open("rb") as file:
            return file.read(limit)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise errors.Invalid(f"The plan {name!r} cannot be read: {reason}.") from error


def current_folder() -> str:
    """The current folder, from which relative paths of a plan start. Raises Invalid if it cannot be used."""
    try:
        folder = os.getcwd()
        folder.encode()
    except (OSError, UnicodeEncodeError) as error:
        raise errors.Invalid(
            "The current folder no longer exists, or its name is not UTF-8.", hint="Change to another folder."
        ) from error
    return folder


def duration(text: str) -> float:
    """Seconds, from a number or a duration as plans write it."""
    try:
        return durations.seconds(text) if text[-1:].isalpha() else arguments.seconds(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} {error}; write 90s, 10m, 1h30m or a number of seconds") from error
