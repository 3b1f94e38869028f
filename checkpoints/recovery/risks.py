"""The risks of a restore, and what to do about each. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from checkpoints.recovery.sorties import ParsedSortie
from fleet import humanise

MAX_NAMES = 3  # in a sentence
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
class RecoveryFacts:
    """The current state of the fleet that a restore depends on."""

    agent_types: Collection[str]
    disabled_types: Collection[str]
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


def assess(
    saved: Mapping[str, ParsedSortie],
    lists: Mapping[str, tuple[str, ...]],
    facts: RecoveryFacts,
    *,
    rows_gone: bool,
    age_s: float,
) -> Iterator[Risk]:
    """The risks of a restore. `lists` are those of the plan; `rows_gone`: the mission has no rows now."""
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
    if disabled := sorted({sortie.type for sortie in unfinished} & set(facts.disabled_types)):
        yield Risk(
            kind="disabled_agent_type",
            level=Level.MEDIUM,
            message=f"Sorties of disabled agent types would wait: {_abbreviated(disabled)}.",
            mitigation="Enable the types in the admin, under Agent types.",
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
