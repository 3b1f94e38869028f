"""Which callables there are here: what `callables.py` of each app and the operator's FLEET_CALLABLES register.

They are imported when a plan is first held against them and not when Django starts: the sample mission's tools alone take
a quarter of what a command takes to start, and most commands need none of them.
"""

from __future__ import annotations

import functools
from importlib.util import find_spec

from django.apps import apps
from django.conf import settings

from agents import callables
from fleet import errors

SAMPLE = "examples.repo_audit.callables"


def names() -> list[str]:
    """The names that plans may call, sorted. Unavailable where a module cannot be imported."""
    discover()
    return callables.names()


@functools.cache
def discover() -> None:
    """Fill the registry. A node does so before it starts agents."""
    ours = [f"{app.name}.callables" for app in apps.get_app_configs() if find_spec(f"{app.name}.callables")]
    if (settings.BASE_DIR / "examples").is_dir():  # a checkout; an installed wheel has none
        ours.append(SAMPLE)
    for module in (*ours, *settings.FLEET_CALLABLES):
        try:
            callables.load([module])
        except (Exception, SystemExit) as fault:
            raise errors.Unavailable(
                f"The callables of {module} cannot be loaded: {type(fault).__name__}: {fault}.",
                hint="Mend the module, or leave it out of FLEET_CALLABLES.",
            ) from fault
