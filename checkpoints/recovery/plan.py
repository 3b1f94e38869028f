"""The recovery plan: what a restore would do, and its risks. Pure: it compares two states and some facts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from fleet import humanise

MAX_NAMES = 3  # in a sentence
_NOTHING_TO_RESUME = '"resume":null}'  # the end of most kept lines; parsing all of them would take long
OLD_S = 7 * 24 * 3600.0


class Level(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"  # a restore needs --force
    BLOCKING = "blocking"  # a restore is impossible, even with --force


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """Something that could go wrong, and what to do about it."""

    kind: str
    level: Level
    message: str
    mitigation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The current state of the fleet that a restore depends on."""

    agent_types: Collection[str]
    served_types: Collection[str]  # types with an agent that takes work
    callables: Collection[str]
    missing_artifacts: Collection[str]  # digests that are not in the store
    folder_exists: bool
    cancelling: bool  # whether the mission is being cancelled
    workspace: WorkspaceFacts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceFacts:
    """The workspace of the mission: where its branch would be moved, and what that depends on."""

    branch: str
    tip: str  # of the checkpoint
    commits_removed: int  # that the branch has now and would lose
    missing_commits: int  # that the checkpoint needs and the mirror lacks
    shared_with: Collection[str]  # names of other missions with the same branch
    foreign: bool  # whether a mission of another user has the same branch
    reserved: frozenset[str]  # sorties whose files another mission has reserved now


class LiveSortie(NamedTuple):
    """The current row of a sortie: the line of its state, and its exact state."""

    line: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedSortie:
    """The parts of a sortie that a plan needs, parsed from its two lines."""

    line: str
    state: str  # pending, due, or a final state
    type: str
    call: str | None
    resumable: bool  # whether its driver saved data from which the next attempt continues, or it has uncommitted work
    artifacts: tuple[str, ...]  # digests
    uncommitted: bool  # whether its next attempt starts with uncommitted work

    @classmethod
    def parse(cls, line: str, kept_line: str) -> ParsedSortie:
        state: dict[str, Any] = json.loads(line)
        resume, uncommitted = continues_from(kept_line)
        return cls(
            line=line,
            state=state["state"],
            type=state["type"],
            call=state["spec"].get("call"),
            resumable=resume is not None or uncommitted is not None,
            artifacts=tuple(artifact["digest"] for artifact in state["artifacts"]),
            uncommitted=uncommitted is not None,
        )

    @property
    def final(self) -> bool:
        return self.state not in ("pending", "due")


def continues_from(kept_line: str) -> tuple[Any, Any]:
    """What the next attempt of a sortie continues from: the data that its driver saved, and its uncommitted work."""
    if kept_line.endswith(_NOTHING_TO_RESUME):
        return None, None
    kept = json.loads(kept_line)
    work = kept.get("workspace", {}).get("uncommitted") or {}
    return kept.get("resume"), work.get("commit") if work.get("commit") != work.get("base") else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPlan:
    """What a restore would do. Lists contain sortie keys in alphabetical order, unless a comment says otherwise."""

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
            "age_s": round(self.age_s, 1),
        }


LISTS = {
    "keep": "stay as they are",
    "put_back": "get their outcome back from the checkpoint",
    "run": "run from their start",
    "resume": "run from where they stopped",
    "create": "are created again",
    "drop": "were added since and are removed",
    "lost": "have succeeded since; the safety checkpoint keeps their results",
    "stopped": "are running and are stopped",
    "uncommitted": "get back the uncommitted work that they had",
}  # what would happen to the sorties in each list


def make_plan(
    *,
    checkpoint: str,
    mission: str,
    saved_state: str,
    saved: Mapping[str, ParsedSortie],
    current: Mapping[str, LiveSortie] | None,
    facts: Facts,
    bytes: int,
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
        agents_to_spawn=tuple(sorted(types - set(facts.served_types))),
        branch=facts.workspace.branch if facts.workspace else "",
        tip=facts.workspace.tip if facts.workspace else "",
        commits_removed=facts.workspace.commits_removed if facts.workspace else 0,
        risks=tuple(_risks(saved, sorted_lists, facts, rows_gone=current is None, age_s=age_s)),
        bytes=bytes,
        age_s=age_s,
    )


def _risks(
    saved: Mapping[str, ParsedSortie],
    lists: Mapping[str, tuple[str, ...]],
    facts: Facts,
    *,
    rows_gone: bool,
    age_s: float,
) -> Iterator[Risk]:
    unfinished = [sortie for sortie in saved.values() if not sortie.final]
    if facts.cancelling:
        yield Risk(
            kind="being_cancelled",
            level=Level.BLOCKING,
            message="The mission is being cancelled.",
            mitigation="Wait until it is cancelled.",
        )
    if missing := sorted({sortie.type for sortie in saved.values()} - set(facts.agent_types)):
        yield Risk(
            kind="missing_agent_type",
            level=Level.BLOCKING,
            message=f"This fleet has no agent type {_abbreviated(missing)}.",
            mitigation="Create it in the admin, under Agent types.",
        )
    if missing := sorted({sortie.call for sortie in unfinished if sortie.call} - set(facts.callables)):
        yield Risk(
            kind="missing_callable",
            level=Level.HIGH,
            message=f"This fleet has no callable {_abbreviated(missing)}, so the sorties that call it would fail.",
            mitigation="Add its module to FLEET_CALLABLES.",
        )
    if missing := sorted(
        {digest for sortie in saved.values() for digest in sortie.artifacts} & set(facts.missing_artifacts)
    ):
        yield Risk(
            kind="missing_artifact",
            level=Level.HIGH,
            message=f"The store lacks the bytes of {_abbreviated([digest[:12] for digest in missing])}.",
            mitigation="Restore the artifacts folder from a backup, or retry the sorties that made them.",
        )
    if unfinished and not facts.folder_exists:
        yield Risk(
            kind="missing_folder",
            level=Level.HIGH,
            message="The mission's folder does not exist on this host, so sorties that work in it would fail here.",
            mitigation="Create it, or run agents only on hosts that have it.",
        )
    if facts.workspace is not None:
        yield from _workspace_risks(facts.workspace)
    if lists["lost"]:
        yield Risk(
            kind="lost_work",
            level=Level.MEDIUM,
            message=f"Finished work would be replaced: {_abbreviated(lists['lost'])}. Its effects outside the fleet remain.",
            mitigation="The state before the restore is captured first; restore that checkpoint to return to it.",
        )
    if lists["stopped"]:
        yield Risk(
            kind="stopped_work",
            level=Level.MEDIUM,
            message=f"Running work would be stopped: {_abbreviated(lists['stopped'])}.",
            mitigation="Pause the mission first, and wait until nothing runs.",
        )
    if rows_gone:
        yield Risk(
            kind="rows_gone",
            level=Level.LOW,
            message="The mission's rows were removed; they would be created again, without the earlier output.",
            mitigation="No action is needed.",
        )
    if age_s > OLD_S:
        yield Risk(
            kind="old",
            level=Level.LOW,
            message=f"The checkpoint is {age_s / 86400:.0f} days old. Files outside the fleet may have changed since.",
            mitigation="Check the mission's folder before it continues.",
        )


def _workspace_risks(facts: WorkspaceFacts) -> Iterator[Risk]:
    if facts.missing_commits:
        yield Risk(
            kind="missing_commits",
            level=Level.BLOCKING,
            message=f"The fleet's mirror of the repository lacks {_commits(facts.missing_commits)} of the checkpoint.",
            mitigation="Restore .fleet/repositories from a backup.",
        )
    if facts.foreign:
        yield Risk(
            kind="foreign_branch",
            level=Level.BLOCKING,
            message=f"The branch {facts.branch} also belongs to another user's mission.",
            mitigation="Fork the checkpoint instead: a fork has a branch of its own.",
        )
    if facts.shared_with:
        yield Risk(
            kind="shared_branch",
            level=Level.HIGH,
            message=f"The branch {facts.branch} is shared with {_abbreviated(sorted(facts.shared_with))}."
            " It would lose their work.",
            mitigation="Fork the checkpoint instead: a fork has a branch of its own.",
        )
    if facts.reserved:
        yield Risk(
            kind="reserved_files",
            level=Level.LOW,
            message=f"Files of {_abbreviated(sorted(facts.reserved))} are reserved by another mission.",
            mitigation="The sorties wait until its work has landed.",
        )
    if facts.commits_removed:
        yield Risk(
            kind="branch_moves",
            level=Level.MEDIUM,
            message=f"The branch {facts.branch} moves back by {_commits(facts.commits_removed)}.",
            mitigation="They stay available under a ref, which the restore names.",
        )


def _commits(number: int) -> str:
    return "1 commit" if number == 1 else f"{number:,} commits"


def _abbreviated(names: Sequence[str]) -> str:
    return humanise.shorten_list(names, MAX_NAMES)
