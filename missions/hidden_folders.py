"""The fleet's own folders on this host, which no workload sees and no mission uses."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings


def paths() -> tuple[Path, ...]:
    """They may be symbolic links, and need not exist."""
    return (*settings.FLEET_HOME.hidden, settings.FLEET_CHECKPOINTS, settings.FLEET_BACKUPS)
