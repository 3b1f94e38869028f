"""Removes copies of sorties that have ended, and mirrors that no mission uses. Nothing unmerged is lost.

Work that an attempt left uncommitted (its agent was lost, for example) is committed first, under the attempt's ref.
Folders are renamed before they are removed, so that a half-removed one is never mistaken for a copy.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from fleet import errors
from missions import removal
from missions.models import Change, Sortie, Workspace
from missions.states import FINAL_SORTIE_STATES, SortieState
from missions.workspaces import commits, copies
from missions.workspaces.copies import Copy
from missions.workspaces.repositories import mirrors

log = logging.getLogger("fleet.workspaces")

KEEP_UNSUCCESSFUL = timedelta(days=1)  # how long `tidy` keeps copies of unsuccessful sorties for inspection


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFolder:
    """A folder that is not removed, and why."""

    path: Path
    reason: str


class UnusedMirrors(NamedTuple):
    """The mirrors that no mission uses."""

    removable: list[Path]
    kept_folders: list[KeptFolder]  # they still contain work


def ended_sorties(*, before: datetime | None = None) -> list[UUID]:
    """The sorties with a copy that have succeeded, or have ended otherwise (before a time)."""
    with_copy = copies.existing()  # read before the rows: a copy is built only after its sortie has started
    unsuccessful = (
        Q(state__in=FINAL_SORTIE_STATES) if before is None else Q(state__in=FINAL_SORTIE_STATES, finished_at__lt=before)
    )
    rows = Sortie.objects.filter(Q(state=SortieState.SUCCEEDED) | unsuccessful, id__in=with_copy)
    return list(rows.order_by("id").values_list("id", flat=True))


def remove_copies(sorties: list[UUID]) -> tuple[int, list[KeptFolder]]:
    """Remove the copies of these sorties. Returns how many, and those that contain work that cannot be committed."""
    removed, kept_folders = 0, []
    for sortie in sorties:
        try:
            removed += _remove_copy(sortie)
        except (errors.FleetError, OSError) as error:
            path = copies.of(sortie=sortie, mirror=Path()).path
            kept_folders.append(KeptFolder(path=path, reason=str(error)))
            log.info("%s is kept: %s", path, error)
    copies.sweep()
    return removed, kept_folders


def tidy() -> int:
    """Remove copies of sorties whose work has landed, or that ended long ago. Returns how many. Runs every hour."""
    removed, _ = remove_copies(ended_sorties(before=timezone.now() - KEEP_UNSUCCESSFUL))
    return removed


def unknown_copies() -> list[KeptFolder]:
    """Copies of sorties that are not in this database, but may be in another one. They are not removed."""
    with_copy = copies.existing()
    in_database = set(Sortie.objects.filter(id__in=with_copy).values_list("id", flat=True))
    paths = (copies.of(sortie=sortie, mirror=Path()).path for sortie in sorted(with_copy - in_database))
    return [KeptFolder(path=path, reason="Its sortie is not in the database.") for path in paths]


def unused_mirrors() -> UnusedMirrors:
    paths = mirrors.existing()  # before the rows: an attempt creates a mirror after the row of its mission
    used = {mirrors.of(name) for name in Workspace.objects.values_list("repository", flat=True).distinct()}
    removable, kept_folders = [], []
    for path in paths:
        if path in used:
            continue
        if mirrors.has_work(path):
            kept_folders.append(
                KeptFolder(path=path, reason="No mission uses it, but it contains commits or checkpoints.")
            )
        else:
            removable.append(path)
    return UnusedMirrors(removable, kept_folders)


def remove_mirrors() -> int:
    """Remove the mirrors that no mission uses and that contain no work. Returns how many."""
    removable = unused_mirrors().removable
    for path in removable:
        mirrors.remove(path)
    mirrors.sweep()
    return len(removable)


def _remove_copy(sortie: UUID) -> bool:
    """Remove a copy, unless its sortie has been reopened.

    Its uncommitted work is stored first; the folders are renamed only once that has succeeded.
    """
    with _locked(sortie) as row:
        if row is None:
            return False
        attempt, copy = row.attempt, _copy_of(row)
        if not row.mission.workspace.discarded_at and copy.exists and _may_have_uncommitted(row):
            _keep_uncommitted(row, copy)
    with _locked(sortie) as row:
        if row is None or row.attempt != attempt:
            return False
        renamed_folders = copies.set_aside(copy)
    for folder in renamed_folders:
        removal.remove(folder)
    return bool(renamed_folders)


@contextmanager
def _locked(sortie: UUID) -> Iterator[Sortie | None]:
    """The sortie, locked so that no attempt of it starts; None if it has no workspace or has not ended."""
    with transaction.atomic():
        rows = Sortie.objects.select_for_update(of=("self",), no_key=True).select_related("mission__workspace")
        yield rows.filter(id=sortie, state__in=FINAL_SORTIE_STATES, mission__workspace__isnull=False).first()


def _copy_of(row: Sortie) -> Copy:
    return copies.of(sortie=row.id, mirror=mirrors.of(row.mission.workspace.repository))


def _may_have_uncommitted(row: Sortie) -> bool:
    """Whether the last attempt worked in the copy and ended without a commit."""
    if row.state == SortieState.SUCCEEDED:
        return False
    newest = Change.objects.filter(sortie=row.id).order_by("-attempt").first()
    if newest is None:
        return True
    return newest.attempt < row.attempt and newest.state not in Change.TO_MERGE


def _keep_uncommitted(row: Sortie, copy: Copy) -> None:
    """Commit what the last attempt left. Raises CommitRefused if it may not be committed."""
    commit = commits.commit(
        copy,
        base=copy.base,
        message=commits.Message(
            author=row.agent_type_id,
            subject=f"{row.key}: uncommitted work",
            trailers={"Fleet-Sortie": f"{row.key} {row.ref}", "Fleet-Attempt": str(row.attempt)},
        ),
        ref=f"{mirrors.ATTEMPTS}/{row.ref}/{row.attempt}",
        max_bytes=settings.FLEET_COMMIT_BYTES,
    )
    if commit.files:
        Change.objects.create(
            sortie_id=row.id,
            attempt=row.attempt,
            state=Change.State.KEPT,
            **commit.change_fields(),
        )
