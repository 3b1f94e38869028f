"""The workspace of a mission that moves to another fleet: its commits, and what an import takes over of its lines.

The commits travel as a git bundle (`missions/workspaces/bundles.py`). They are checked against the repository that the
importer names before the mirror gets them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings

from checkpoints.document import Bucket, MissionEntry, archive
from checkpoints.document.buckets import Malformed
from checkpoints.files import storage
from checkpoints.operations.transfer import checking, spooling
from checkpoints.operations.transfer.checking import ImportedSortie
from checkpoints.operations.transfer.spooling import BundleSpool
from checkpoints.rows import workspaces
from fleet import errors
from missions.models import Change
from missions.workspaces import bundles, moving
from missions.workspaces.repositories import git, mirrors

_COMMITS = ("base", "commit", "landed", "onto")  # of a change


@contextmanager
def exported(entry: MissionEntry) -> Iterator[BundleSpool | None]:
    """The commits of a mission that is exported, in a temporary file; None if it has none.

    Raises Conflict if the mirror lacks a commit, or if the bundle is larger than an import accepts.
    """
    state = json.loads(storage.read(entry.mission).partition("\n")[0]).get("workspace")
    commits = workspaces.exported_commits(state, _parts(entry)) if state else set()
    if not commits:
        yield None
        return
    git.require()
    mirror, base = mirrors.of(state["repository"]), state["base_commit"]
    if missing := moving.missing(mirror, commits | {base}):
        raise errors.Conflict(
            f"The mission cannot be exported: the fleet's mirror lacks {len(missing):,} of its commits"
            f" ({min(missing)[:12]}, for example).",
            hint="Export a checkpoint from before its work was discarded or cleaned up, or restore"
            " .fleet/repositories from a backup.",
        )
    with spooling.bundle_spool() as bundle:
        try:
            bundles.write(mirror, commits=commits, base=base, out=bundle)
        except Malformed as error:
            raise errors.Conflict(
                f"The mission cannot be exported: {error}.",
                hint="Raise FLEET_IMPORT_FILE_BYTES, here and where the file is imported.",
            ) from error
        yield bundle


def _parts(entry: MissionEntry) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The `workspace` parts of the lines of each sortie. One blob is in memory at a time."""
    for part in archive.parts(entry)[1:]:
        bucket = Bucket.parse(storage.read(part))
        for key, line in bucket.state.items():
            lines = (line, bucket.kept[key])
            if any('"workspace":' in text for text in lines):
                state, kept = (json.loads(text).get("workspace") or {} for text in lines)
                yield state, kept


def commits_of(state: Mapping[str, Any], sorties: Collection[ImportedSortie]) -> set[str]:
    """The commits that must be in the file. Raises Malformed if the ids are not all of the same kind."""
    parts = ((sortie.workspace or {}, sortie.workspace_kept or {}) for sortie in sorties)
    commits = workspaces.exported_commits(state, parts)
    if any(len(commit) != len(state["base_commit"]) for commit in commits):
        raise Malformed("it names commits of two kinds of repositories")
    return commits


def receive(
    bundle: BundleSpool, *, state: Mapping[str, Any], sorties: Mapping[str, ImportedSortie], mirror: Path
) -> set[str]:
    """Check the commits of the file and copy them to the mirror, where no ref points to them yet.

    Returns those of the commits named by the file that the mission may use: its own, and those of the base's history.
    Raises bundles.BundleRefused with the reason.
    """
    commits, base = commits_of(state, sorties.values()), state["base_commit"]
    commit_ids = {
        change[name]
        for sortie in sorties.values()
        for change in (sortie.workspace or {}).get("changes", ())
        for name in _COMMITS
    }
    commit_ids |= {
        conflict["onto"] for sortie in sorties.values() for conflict in (sortie.workspace or {}).get("conflicts", ())
    }
    if not commits:
        env = {"GIT_DIR": str(mirror)}
        return bundles.reachable(commit_ids, commits=(), base=base, env=env) | {base}
    with bundles.incoming(mirror, base=base) as incoming:
        incoming.unpack(
            bundle.open(),
            commits=commits,
            max_file_bytes=settings.FLEET_COMMIT_BYTES,
            max_bytes=settings.FLEET_IMPORT_FILE_BYTES,
        )
        usable = incoming.reachable(commit_ids, commits=commits)
        incoming.publish(commits)
    return usable | commits | {base}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedParts:
    """The `workspace` parts of a sortie as they are imported. `state` is None if nothing is left of it."""

    state: dict[str, Any] | None
    kept: dict[str, Any] | None


def parts_of(sortie: ImportedSortie, *, usable: Collection[str]) -> ImportedParts:
    """What an import takes over of a sortie's workspace.

    Commits that the mission may not use are left out: of what has landed, only the commit on the branch is in the file.
    A change that would add sorties is not taken over, because they would run as if a plan had been checked: its files
    are where the next attempt starts. Nobody here decided about a conflict, so no name is kept.
    """
    state, kept = sortie.workspace, sortie.workspace_kept
    saved = _uncommitted(sortie)
    if state is None or kept is None:
        return ImportedParts(state=None, kept={"uncommitted": saved} if saved else None)
    clock = _Clock()
    changes, change_times = [], []
    for change, times in zip(state["changes"], kept["changes"], strict=True):
        if change["added_sorties"] and change["state"] != Change.State.LANDED:
            saved = {"base": change["base"], "commit": change["commit"]} if not sortie.ended else None
            continue
        changes.append({**change, **_commits(change, usable), "added_sorties": []})
        change_times.append({"created_at": clock.saved_or_now(times["created_at"])})
    conflicts = [
        {**conflict, "onto": conflict["onto"] if conflict["onto"] in usable else "", "tree": "", "by": ""}
        for conflict in state["conflicts"]
    ]
    conflict_times = [
        {
            "created_at": clock.saved_or_now(times["created_at"]),
            "closed_at": clock.saved_or_now(times["closed_at"]) if conflict["closed"] else None,
        }
        for conflict, times in zip(state["conflicts"], kept["conflicts"], strict=True)
    ]
    reservation_times = [
        {
            "created_at": clock.saved_or_now(times["created_at"]),
            "released_at": clock.saved_or_now(times["released_at"]) if reservation["released"] else None,
        }
        for reservation, times in zip(state["reservations"], kept["reservations"], strict=True)
    ]
    new_state = {**state, "changes": changes, "conflicts": conflicts}
    return ImportedParts(
        state=new_state if any(new_state.values()) else None,
        kept={
            "changes": change_times,
            "conflicts": conflict_times,
            "reservations": reservation_times,
            "uncommitted": saved,
        },
    )


class _Clock:
    """The times of rows: those of the file, or now, one microsecond apart, so that they keep their order."""

    def __init__(self) -> None:
        self._now = datetime.now(UTC)

    def saved_or_now(self, text: str | None) -> str:
        self._now += timedelta(microseconds=1)
        return (checking.parse_time(text) or self._now).isoformat()


def _uncommitted(sortie: ImportedSortie) -> dict[str, str] | None:
    work = (sortie.workspace_kept or {}).get("uncommitted") or {}
    if sortie.ended or "commit" not in work:
        return None
    return {"base": work["base"], "commit": work["commit"]}


def _commits(change: Mapping[str, Any], usable: Collection[str]) -> dict[str, str]:
    """The commits of a change, without those that the mission may not use."""
    commits = {name: change[name] if change[name] in usable else "" for name in _COMMITS}
    if not commits["commit"] or not commits["base"]:
        commits |= {"commit": commits["landed"], "base": commits["onto"]}
    return commits
