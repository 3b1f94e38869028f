"""The recovery plan: what a restore would do, and its risks. Pure: it compares two states and some facts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from checkpoints.recovery.risks import RecoveryFacts, Risk, assess
from checkpoints.recovery.sorties import LiveSortie, ParsedSortie


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPlan:
    """What a restore would do. The lists name sorties by their keys, in alphabetical order."""

    checkpoint: str
    mission: str
    state: str  # of the mission afterwards: paused, or as it ended
    keep: tuple[str, ...]  # have ended, and stay as they are
    put_back: tuple[str, ...]  # have ended in the checkpoint, and get that outcome back
    run: tuple[str, ...]  # run from their start, once they may
    resume: tuple[str, ...]  # run from where their drivers stopped
    create: tuple[str, ...]  # have no row now
    drop: tuple[str, ...]  # were added since
    lost: tuple[str, ...]  # succeeded since, and would run again or be removed; the safety checkpoint has their results
    stopped: tuple[str, ...]  # are running now, and are taken from their agents
    uncommitted: tuple[str, ...]  # get back the uncommitted work that they had
    agents_to_spawn: tuple[str, ...]  # agent types that have work and no agent
    branch: str  # of the mission's workspace; "" without one
    tip: str  # the commit that the branch is moved to
    commits_removed: int  # that the branch has now and would lose
    risks: tuple[Risk, ...]
    bytes: int  # that a restore reads
    format: int  # of the checkpoint's files
    age_s: float

    @property
    def digest(self) -> str:
        """Identifies this plan: it changes with what the restore would do, but not with the checkpoint's age."""
        risks = [risk.kind for risk in self.risks if risk.kind != "old"]
        content = {**self.as_json(), "age_s": 0, "risks": risks}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def as_json(self) -> dict[str, Any]:
        return {
            "checkpoint": self.checkpoint,
            "mission": self.mission,
            "state": self.state,
            **{name: list(getattr(self, name)) for name in LISTS},
            "agents_to_spawn": list(self.agents_to_spawn),
            "branch": self.branch,
            "tip": self.tip,
            "commits_removed": self.commits_removed,
            "risks": [
                {"kind": risk.kind, "level": risk.level, "message": risk.message, "mitigation": risk.mitigation}
                for risk in self.risks
            ],
            "bytes": self.bytes,
            "format": self.format,
            "age_s": round(self.age_s, 1),
        }


LISTS = {
    "keep": "unchanged",
    "put_back": "with the captured outcome restored",
    "run": "to run from the start",
    "resume": "to continue from where it stopped",
    "create": "to be created again",
    "drop": "added since, to be removed",
    "lost": "succeeded since; the safety checkpoint keeps the result",
    "stopped": "running now, to be stopped",
    "uncommitted": "with uncommitted work restored",
}  # what would happen to each sortie in a list


def make_plan(
    *,
    checkpoint: str,
    mission: str,
    saved_state: str,
    saved: Mapping[str, ParsedSortie],
    current: Mapping[str, LiveSortie] | None,
    facts: RecoveryFacts,
    bytes: int,
    format: int,
    age_s: float,
) -> RecoveryPlan:
    """Compare a saved mission with its rows. `current` is None if the rows are gone.

    `saved_state` is the state of the mission in the checkpoint: "live", or the state in which it ended.
    """
    rows = current or {}
    unfinished = [key for key, sortie in saved.items() if not sortie.final]
    lists = {
        "keep": [
            key for key, sortie in saved.items() if sortie.final and key in rows and rows[key].line == sortie.line
        ],
        "put_back": [
            key for key, sortie in saved.items() if sortie.final and (key not in rows or rows[key].line != sortie.line)
        ],
        "run": [key for key in unfinished if not saved[key].resumable],
        "resume": [key for key in unfinished if saved[key].resumable],
        "create": [key for key in saved if key not in rows],
        "drop": [key for key in rows if key not in saved],
        "lost": [
            key
            for key, sortie in rows.items()
            if sortie.state == "succeeded"
            and (key not in saved or not saved[key].final or saved[key].line != sortie.line)
        ],
        "stopped": [key for key, sortie in rows.items() if sortie.state == "running"],
        "uncommitted": [key for key in unfinished if saved[key].uncommitted],
    }
    sorted_lists = {name: tuple(sorted(keys)) for name, keys in lists.items()}
    types = {saved[key].type for key in unfinished}
    return RecoveryPlan(
        checkpoint=checkpoint,
        mission=mission,
        state="paused" if saved_state == "live" else saved_state,
        **sorted_lists,
        agents_to_spawn=tuple(sorted(types - set(facts.served_types) - set(facts.disabled_types))),
        branch=facts.workspace.branch if facts.workspace else "",
        tip=facts.workspace.tip if facts.workspace else "",
        commits_removed=facts.workspace.commits_removed if facts.workspace else 0,
        risks=tuple(assess(saved, sorted_lists, facts, rows_gone=current is None, age_s=age_s)),
        bytes=bytes,
        format=format,
        age_s=age_s,
    )
