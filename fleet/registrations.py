"""Loads each app's `registrations.py`, which registers metrics, checks, hooks and parts of backups with lower layers.

These modules are imported at first use: most commands never need them, and start faster without.
"""

from __future__ import annotations

from functools import cache

from django.utils.module_loading import autodiscover_modules


@cache
def load() -> None:
    """Import the `registrations.py` of every app."""
    autodiscover_modules("registrations")
