"""Conflicts as rows, and as text for the attempt that has to resolve one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db.models.functions import Now

from fleet.events.models import Event
from missions.models import Change, Conflict
from missions.workspaces import branches
from missions.workspaces.repositories import git
from missions.workspaces.repositories.git import printable

MAX_FILES = 100
MAX_PATH_CHARACTERS = 20_000  # of the recorded files: a page of the API has up to 200 conflicts
MAX_TEXT = 4_000
MAX_DIFF = 20_000  # bytes of each side in FLEET_CONFLICT
COUNTED = (Conflict.Kind.STRAY, Conflict.Kind.MERGE, Conflict.Kind.VERIFY)


def record(
    *,
    sortie: UUID,
    mission: UUID,
    attempt: int | None,
    kind: Conflict.Kind,
    outcome: Conflict.Outcome,
    others: Sequence[str] = (),
    files: Sequence[str] = (),
    onto: str = "",
    tree: str = "",
    text: str = "",
) -> Conflict:
    """Store a conflict and its event. Call it in a transaction."""
    conflict = Conflict.objects.create(
        sortie_id=sortie,
        attempt=attempt,
        kind=kind,
        outcome=outcome,
        others=list(others),
        files=_recorded(files),
        onto=onto,
        tree=tree,
        text=text.replace("\x00", "")[-MAX_TEXT:],
    )
    Event.objects.create(
        kind="sortie.conflict",
        scope=mission,
        subject=sortie,
        data={
            "kind": kind,
            "outcome": outcome,
            "attempt": attempt,
            "files": conflict.files[:20],
            "others": list(others),
        },
    )
    return conflict


def _recorded(files: Sequence[str]) -> list[str]:
    """The first files, up to MAX_FILES and MAX_PATH_CHARACTERS."""
    paths = [printable(path) for path in files[:MAX_FILES]]
    return [path for path, size in zip(paths, accumulate(map(len, paths)), strict=True) if size <= MAX_PATH_CHARACTERS]


def reworks(sortie: UUID) -> int:
    """How many attempts were made to resolve conflicts since the sortie last landed or a person last decided."""
    return Conflict.objects.filter(
        sortie_id=sortie, kind__in=COUNTED, outcome=Conflict.Outcome.REWORK, closed_at__isnull=True
    ).count()


def newest(sortie: UUID) -> Conflict | None:
    return Conflict.objects.filter(sortie_id=sortie, kind__in=COUNTED).order_by("-created_at", "-id").first()


def close(*, sortie: UUID, outcome: Conflict.Outcome, by: str = "") -> int:
    """Record how a person resolved the sortie's conflict; returns how many conflicts waited for that."""
    rows = Conflict.objects.filter(sortie_id=sortie, kind__in=COUNTED, closed_at__isnull=True)
    decided = rows.filter(outcome=Conflict.Outcome.MANUAL).update(outcome=outcome, by=by[:150], closed_at=Now())
    rows.update(closed_at=Now())
    return decided


def describe(*, mirror: Path, change: Change, conflict: Conflict, tip: str, files: Sequence[str]) -> dict[str, Any]:
    """The content of FLEET_CONFLICT: the files, both sides, and what was merged since the change was started.

    `files`: those with conflict markers now. They may differ from those that were recorded with the conflict.
    """
    paths = list(files[:MAX_FILES]) or conflict.files
    return {
        "kind": conflict.kind,
        "files": [printable(path) for path in paths],
        "message": conflict.text,
        "yours": _diff(mirror, change.base, change.commit, paths),
        "theirs": _diff(mirror, change.base, tip, paths),
        "merged_since": branches.landed_since(mirror, base=change.base, tip=tip),
    }


def prompt(description: Mapping[str, Any], *, path: Path) -> str:
    """The text that precedes the prompt of the attempt that resolves the conflict."""
    files = "\n".join(f"- {name}" for name in description["files"]) or "- (none)"
    if description["kind"] == Conflict.Kind.VERIFY:
        problem = (
            "Your earlier change merges cleanly with what others have merged since, but the check of the repository fails"
            f" on the result. It ended with:\n\n{description['message']}\n"
        )
    else:
        problem = (
            "Your earlier change conflicts with what others have merged since. Both versions are in these files, between"
            f" conflict markers:\n\n{files}\n\nResolve every conflict and remove the markers."
        )
    return (
        f"{problem}\nThe folder contains the newest state of the branch together with your earlier change. {path} has the"
        " details as JSON. Keep what others have done. Your task was:\n\n"
    )


def others(mirror: Path, *, base: str, tip: str, files: Sequence[str] = ()) -> list[str]:
    """The keys of the sorties whose work was merged between the two commits, or of those that changed the `files`."""
    rows = branches.landed_since(mirror, base=base, tip=tip, files=files[:MAX_FILES])
    if not rows and files:  # a folder in the place of a file, for example
        rows = branches.landed_since(mirror, base=base, tip=tip)
    keys = [row["sortie"] for row in rows if row["sortie"]]
    return list(dict.fromkeys(key.partition(" ")[0] for key in keys))[:20]


def _diff(mirror: Path, base: str, commit: str, files: Sequence[str]) -> str:
    words = ("diff-tree", "-p", "-r", "--no-ext-diff", "--no-textconv", base, commit, "--", *files)
    output, more = git.read_up_to(MAX_DIFF, *words, at=mirror)
    return output.decode("utf-8", "replace") + ("\n… (cut)\n" if more else "")
