"""The folders in which attempts work: one each, named by its marker, and gone with it."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from django.conf import settings

from fleet import errors, ids
from missions.models import Sortie


def path(marker: str) -> Path:
    return settings.FLEET_HOME.scratch / marker.replace("/", "-")


def outbox(marker: str) -> Path:
    """Where copies of its outputs lie until they are stored; the attempt itself does not see it."""
    return settings.FLEET_HOME.outbox / marker.replace("/", "-")


def make(folder: Path) -> None:
    """An empty folder, whatever was there."""
    remove(folder)
    folder.mkdir(mode=0o700, parents=True)


def remove(folder: Path) -> None:
    """Remove it as far as it can be."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():  # the work has shut one to itself (chmod 0)
        os.chmod(folder, 0o700)
        for parent, names, _ in os.walk(folder):
            for name in names:
                if not os.path.islink(below := os.path.join(parent, name)):
                    with suppress(OSError):
                        os.chmod(below, 0o700)
        shutil.rmtree(folder, ignore_errors=True)


def sweep() -> int:
    """Remove the folders of attempts that do not run any more: those whose agents were killed. Returns how many."""
    found = {folder: named for folder in _folders() if (named := _attempt(folder.name)) is not None}
    sorties = {sortie for sortie, _ in found.values()}
    running = set(Sortie.objects.filter(id__in=sorties, state="running").values_list("id", "attempt"))
    ended = [folder for folder, named in found.items() if named not in running]
    for folder in ended:
        remove(folder)
    return len(ended)


def _folders() -> list[Path]:
    """Listed before it is asked which attempts run: who makes a folder runs already."""
    found: list[Path] = []
    for home in (settings.FLEET_HOME.scratch, settings.FLEET_HOME.outbox):
        with suppress(FileNotFoundError):
            found += home.iterdir()
    return found


def _attempt(name: str) -> tuple[UUID, int] | None:
    """The sortie and attempt that a folder is named for; None where it is none of ours."""
    sortie, _, number = name.rpartition("-")
    try:
        return ids.decode(ids.SORTIE, sortie), int(number)
    except (errors.FleetError, ValueError):
        return None
