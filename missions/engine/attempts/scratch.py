"""The scratch folders of attempts: one per attempt, named by its marker and removed after it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from uuid import UUID

from django.conf import settings

from fleet import errors, ids
from missions.models import Sortie
from missions.removal import remove
from missions.states import SortieState


def path(marker: str) -> Path:
    return settings.FLEET_HOME.scratch / marker.replace("/", "-")


def outbox(marker: str) -> Path:
    """The folder for copies of an attempt's outputs until they are stored. The attempt cannot see it."""
    return settings.FLEET_HOME.outbox / marker.replace("/", "-")


def make(folder: Path) -> None:
    """Create an empty folder, replacing whatever exists there."""
    remove(folder)
    folder.mkdir(mode=0o700, parents=True)


def sweep(*, dry_run: bool = False) -> int:
    """Remove the folders of attempts that no longer run, which killed agents left behind. Returns how many."""
    attempts = {folder: attempt for folder in _folders() if (attempt := _attempt(folder.name)) is not None}
    sorties = {sortie for sortie, _ in attempts.values()}
    running = set(Sortie.objects.filter(id__in=sorties, state=SortieState.RUNNING).values_list("id", "attempt"))
    ended = [folder for folder, attempt in attempts.items() if attempt not in running]
    if not dry_run:
        for folder in ended:
            remove(folder)
    return len(ended)


def _folders() -> list[Path]:
    """All folders of attempts. Call it before querying the running attempts, which run before their folders exist."""
    folders: list[Path] = []
    for home in (settings.FLEET_HOME.scratch, settings.FLEET_HOME.outbox):
        with suppress(FileNotFoundError):
            folders += home.iterdir()
    return folders


def _attempt(name: str) -> tuple[UUID, int] | None:
    """The sortie and the attempt number in a folder's name; None if it is not the folder of an attempt."""
    sortie, _, number = name.rpartition("-")
    try:
        return ids.decode(ids.SORTIE, sortie), int(number)
    except (errors.FleetError, ValueError):
        return None
