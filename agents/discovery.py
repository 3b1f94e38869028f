"""Finds the callables of this installation: in `callables.py` of each app and in the modules of FLEET_CALLABLES.

They are imported when a plan is first checked against them, not when Django starts. Most commands need none of them,
and the sample mission's tools alone would add a quarter to the time that a command takes to start.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from django.apps import apps
from django.conf import settings

from agents import callables
from fleet import errors

SAMPLE = "examples.repo_audit.callables"


def names() -> list[str]:
    """The names of all callables, sorted. Raises Unavailable if a module cannot be imported."""
    discover()
    return callables.names()


@functools.cache
def discover() -> None:
    """Fill the registry, once per process. Raises Unavailable if a module cannot be imported."""
    modules = [f"{app.name}.callables" for app in apps.get_app_configs() if find_spec(f"{app.name}.callables")]
    if (settings.BASE_DIR / "examples" / "repo_audit").is_dir():  # a checkout; an installed package has no samples
        modules.append(SAMPLE)
    for module in (*modules, *settings.FLEET_CALLABLES):
        try:
            with _unchanged_path():
                callables.load([module])
        except (Exception, SystemExit) as error:
            raise errors.Unavailable(
                f"The callables of {module} cannot be loaded: {type(error).__name__}: {error}.",
                hint="Fix the module, or remove it from FLEET_CALLABLES.",
            ) from error


@contextmanager
def _unchanged_path() -> Iterator[None]:
    """Undo what the import of callables adds to `sys.path`, so that it decides nothing for the rest of this process.

    The path of lizard, which measures complexity, then begins with the folder of the running program: `fleet/`, whose
    `redis` would replace the library of that name.
    """
    path = sys.path[:]
    try:
        yield
    finally:
        sys.path[:] = path
