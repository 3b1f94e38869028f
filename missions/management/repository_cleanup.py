"""The part of `fleet_cleanup` about repositories: copies of ended sorties, and mirrors that no mission uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fleet import ids
from fleet.console import invocation, lines
from fleet.management.operator import OperatorCommand
from missions.operations.workspaces import tidying
from missions.operations.workspaces.tidying import KeptFolder
from missions.operations.workspaces.unmerged import Unmerged

MAX_LISTED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleanup:
    """How many copies and mirrors were removed, or would be, and which unused folders are kept."""

    copies: int
    mirrors: int
    kept_folders: tuple[KeptFolder, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "copies": self.copies,
            "mirrors": self.mirrors,
            "kept": [{"path": str(folder.path), "reason": folder.reason} for folder in self.kept_folders],
        }

    def counted(self) -> list[str]:
        """`["1 copy of a repository", "2 mirrors"]`, without what there is none of."""
        copies = "1 copy of a repository" if self.copies == 1 else f"{self.copies:,} copies of repositories"
        mirrors = lines.counted(self.mirrors, "mirror")
        return [text for number, text in ((self.copies, copies), (self.mirrors, mirrors)) if number]


def clean(*, remove: bool) -> Cleanup:
    """Remove the copies and mirrors that nothing uses, or only count them."""
    sorties = tidying.ended_sorties()
    kept_folders = tidying.unknown_copies()
    if remove:
        copies, unremovable = tidying.remove_copies(sorties)
        mirrors = tidying.remove_mirrors()
        kept_folders += unremovable
    else:
        copies, mirrors = len(sorties), len(tidying.unused_mirrors().removable)
    kept_folders += tidying.unused_mirrors().kept_folders
    return Cleanup(copies=copies, mirrors=mirrors, kept_folders=tuple(kept_folders))


def report_kept(command: OperatorCommand, cleanup: Cleanup, unmerged: Sequence[Unmerged]) -> None:
    """Print what is kept and why."""
    for work in unmerged[:MAX_LISTED]:
        mission = ids.encode(ids.MISSION, work.mission)
        parts = (("commit", len(work.commits)), ("change", len(work.changes)))
        counts = " and ".join(lines.counted(number, noun) for noun, number in parts if number)
        merge = invocation.command("fleet_mission", "merge", mission)
        discard = invocation.command("fleet_mission", "discard", mission)
        verb = "is" if len(work.commits) + len(work.changes) == 1 else "are"
        hints = [f"Merge it: {merge}", f"Discard it: {discard}"] if work.commits else [f"Discard it: {discard}"]
        command.say("\n  ".join([f"{mission} is kept, because {counts} {verb} not merged. {hints[0]}", *hints[1:]]))
    for folder in cleanup.kept_folders[:MAX_LISTED]:
        command.say(f"{folder.path} is kept: {lines.one_line(folder.reason)}")
    hidden = max(0, len(unmerged) - MAX_LISTED) + max(0, len(cleanup.kept_folders) - MAX_LISTED)
    if hidden:
        command.say(f"{hidden:,} more are kept; --json lists them.")
