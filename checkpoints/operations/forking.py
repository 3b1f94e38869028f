"""Fork: a new mission from a checkpoint, in which some sorties run again and the others keep their results."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db import connection, transaction

from checkpoints.files import loading
from checkpoints.files.loading import SavedMission
from checkpoints.models import Checkpoint
from checkpoints.operations.restoring import NotExact
from checkpoints.rows import reading, workspaces, writing
from checkpoints.rows.writing import SortieTarget
from fleet import audit, errors, ids
from fleet.access.actor import role_of
from fleet.access.models import Role
from fleet.events.models import Event
from fleet.postgres import locks
from fleet.postgres.locks import Lock
from missions import folders, plan
from missions.models import Mission, Template
from missions.operations import launching, permissions
from missions.plan import Json, SortieSpec
from missions.queries import plan_context
from missions.states import MissionState, ended_badly

RESET = {"state": "due", "tries": 0, "rescues": 0, "reason": "", "result": None, "error": "", "artifacts": []}


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkResult:
    """A new mission, and the keys of sorties that run again, were left out, or have stale results."""

    mission: Mission
    rerun: tuple[str, ...]
    dropped: tuple[str, ...]
    stale: tuple[str, ...]  # keep a result that used a changed input


def fork(
    *,
    checkpoint: Checkpoint,
    mission: UUID | None = None,
    sorties: Collection[str] = (),
    params: Mapping[str, Json] | None = None,
    edit: str = "",
    name: str = "",
    can_execute: bool,
    by: User | None = None,
) -> ForkResult:
    """Create a mission that continues from a checkpoint. It is planned; `resume` starts it.

    `sorties` and everything that depends on them run again; the sorties that they had added are left out. The same
    applies to sorties that `edit` replaces (YAML: `sorties: {name: …}`). `params` change inputs. `by` is None for the
    host's operator.

    Raises NotFound for a sortie that the checkpoint does not have; PlanError if `params` or `edit` are invalid;
    Forbidden if the caller may not start the code, or may not edit it because it comes from a template;
    CheckpointDamaged if a file of the checkpoint is missing or was changed.
    """
    with locks.session(Lock.CHECKPOINTS, shared=True):
        saved = loading.load_intact(checkpoint, mission)
        graph = _Graph(saved)
        inputs = _inputs(saved, params or {})
        edited = _edited_specs(saved, graph, edit, inputs)
        graph.require([*sorties, *edited])
        changed_inputs = [key for key, value in inputs.items() if value != saved.mission_state["inputs"].get(key)]
        _check_rights(saved, edited, changed_inputs=changed_inputs, can_execute=can_execute, by=by)
        template = "" if edited else saved.mission_kept["template"]
        rerun, dropped = graph.reset([*sorties, *edited])
        live = bool(rerun) or saved.mission_state["state"] == "live"
        with transaction.atomic(durable=True):
            id = ids.new()
            writing.create_mission(
                mission=id,
                mission_lines=saved.mission_lines,
                checkpoint=checkpoint.ref,
                state_if_live=MissionState.PLANNED,
                can_execute=can_execute or bool(template),
                template=template,
                name=name or None,
                origin=_origin(saved, checkpoint, sorties),
                owner=by.id if by else None,
                team=checkpoint.team_id if _is_in_team(by, checkpoint) else None,
                changes={"inputs": inputs, **({"state": "live"} if live else {})},
            )
            with connection.cursor() as cursor:
                turn, _ = launching.fair_turn(cursor)
            targets = writing.TargetTable(graph.targets(rerun=rerun, dropped=dropped, edited=edited))
            writing.put_back(mission=id, targets=targets, origin=turn, checkpoint=checkpoint.ref)
            workspaces.put_back(saved, mission=id, replaced="", branch=f"fleet/{ids.encode(ids.MISSION, id)}")
            workspaces.replace_reservations(edited.values(), mission=id)
            _require_exact(id, saved, keys=saved.state.keys() - rerun - dropped)
            Event.objects.create(
                kind="checkpoint.forked",
                scope=id,
                subject=checkpoint.id,
                data={"checkpoint": checkpoint.ref, "mission": saved.entry.id, "from": sorted(sorties)[:20]},
            )
            audit.record(
                kind="checkpoint.fork",
                subject=checkpoint.ref,
                after={
                    "mission": ids.encode(ids.MISSION, id),
                    "from": sorted(sorties)[:20],
                    "inputs": sorted(changed_inputs),
                    "edited": sorted(edited),
                },
            )
    if saved.has_workspace:
        workspaces.complete(id)
    unchanged = [key for key in graph.order if key not in rerun and key not in dropped]
    return ForkResult(
        mission=Mission.objects.get(id=id),
        rerun=tuple(key for key in graph.order if key in rerun),
        dropped=tuple(key for key in graph.order if key in dropped),
        stale=tuple(key for key in unchanged if graph.uses(key, changed_inputs)),
    )


class _Graph:
    """The sorties of a saved mission, parsed."""

    def __init__(self, saved: SavedMission) -> None:
        self._saved = saved
        self.sorties: dict[str, dict[str, Any]] = {key: json.loads(line) for key, line in saved.state.items()}
        self.order = sorted(self.sorties, key=lambda key: (self.sorties[key]["order"], key))
        self._dependents: dict[str, list[str]] = defaultdict(list)
        self._added: dict[str, list[str]] = defaultdict(list)
        for key, sortie in self.sorties.items():
            for need, _ in sortie["needs"]:
                self._dependents[need].append(key)
            if sortie["added_by"] is not None:
                self._added[sortie["added_by"]].append(key)

    def require(self, keys: Iterable[str]) -> None:
        missing = [key for key in keys if key not in self.sorties]
        if missing:
            raise errors.NotFound(
                f"The checkpoint has no sortie {', '.join(map(repr, missing[:3]))}.",
                hint="See the plan of the mission for its sorties.",
            )

    def reset(self, keys: Collection[str]) -> tuple[set[str], set[str]]:
        """The sorties that run again if these do, and the sorties that those had added, which are dropped."""
        rerun: set[str] = set()
        dropped: set[str] = set()
        pending = list(keys)
        while pending:
            key = pending.pop()
            if key in rerun or key in dropped:
                continue
            rerun.add(key)
            pending += self._dependents[key]
            added = list(self._added[key])
            while added:
                child = added.pop()
                if child not in dropped:
                    dropped.add(child)
                    pending += self._dependents[child]
                    added += self._added[child]
        return rerun - dropped, dropped

    def uses(self, key: str, inputs: Collection[str]) -> bool:
        """Whether a sortie that has ended mentions one of these inputs, in a template or as a variable."""
        names = "|".join(re.escape(name) for name in inputs)
        if not names or self.sorties[key]["state"] in ("pending", "due"):
            return False
        spec = json.dumps(self.sorties[key]["spec"])
        return bool(
            re.search(rf"\binputs\.(?:{names})\b", spec) or re.search(rf"\bFLEET_INPUT_(?:{names.upper()})\b", spec)
        )

    def targets(
        self, *, rerun: Collection[str], dropped: Collection[str], edited: Mapping[str, SortieSpec]
    ) -> list[SortieTarget]:
        changes: dict[str, dict[str, Any]] = {}
        for key in rerun:
            sortie = self.sorties[key]
            needs = [need for need in sortie["needs"] if need[0] not in dropped]
            changes[key] = {**RESET, "needs": needs, **_spec_changes(edited.get(key))}
            if "workspace" in sortie:
                changes[key]["workspace"] = {**sortie["workspace"], "changes": [], "conflicts": []}
        for key in rerun:
            waits = any(
                not self._satisfies_need(
                    need, always=changes[key].get("always", self.sorties[key]["always"]), rerun=rerun
                )
                for need, _ in changes[key]["needs"]
            )
            changes[key]["state"] = "pending" if waits else "due"
        return [
            SortieTarget(
                sortie=ids.new(),
                created=True,
                wait_until=None,
                state=line,
                kept=self._saved.kept[key],
                changes=changes.get(key, {}),
            )
            for key, line in self._saved.state.items()
            if key not in dropped
        ]

    def _satisfies_need(self, need: str, *, always: bool, rerun: Collection[str]) -> bool:
        sortie = self.sorties[need]
        if need in rerun or sortie["state"] in ("pending", "due"):
            return False
        return always or not ended_badly(state=sortie["state"], tolerated=sortie["allow_failure"])


def _spec_changes(spec: SortieSpec | None) -> dict[str, Any]:
    """The parts of a sortie's state that follow from a new spec."""
    if spec is None:
        return {}
    return {
        "spec": spec.as_json(),
        "type": spec.agent_type,
        "priority": spec.priority,
        "always": spec.always,
        "allow_failure": spec.allow_failure,
        "max_tries": spec.retry.max_attempts,
        "concurrency_key": spec.concurrency.key if spec.concurrency else None,
        "needs": sorted([need, need.partition("[")[0]] for need in spec.needs),
    }


def _inputs(saved: SavedMission, params: Mapping[str, Json]) -> dict[str, Json]:
    """The mission's inputs with new values, which its plan must accept. The other values do not change."""
    inputs: dict[str, Json] = saved.mission_state["inputs"]
    if not params:
        return inputs
    loaded = plan.load(text=saved.mission_state["plan"], context=plan_context.current())
    current = {name: value for name, value in inputs.items() if name in loaded.inputs and value is not None}
    bound = plan.bind(plan=loaded, params={**current, **params})
    return {**inputs, **{name: bound[name] for name in params}}


def _edited_specs(saved: SavedMission, graph: _Graph, text: str, inputs: Mapping[str, Json]) -> dict[str, SortieSpec]:
    """The new specs in an edit, by key."""
    if not text:
        return {}
    mission_state = saved.mission_state
    names = plan.fragment_names(text=text, context=plan_context.current())
    graph.require(names)
    specs = plan.fragment(
        text=text,
        existing=[key for key in graph.order if key not in names],
        context=plan_context.current(),
        defaults=mission_state["defaults"],
        inputs=inputs,
        workspace=saved.has_workspace,
    )
    folders.check_prompts(specs=specs, folder=mission_state["folder"], workspace=saved.has_workspace)
    return {spec.key: spec for spec in specs}


def _check_rights(
    saved: SavedMission,
    edited: Mapping[str, SortieSpec],
    *,
    changed_inputs: Collection[str],
    can_execute: bool,
    by: User | None,
) -> None:
    """As for a launch: code needs plan.execute, unless it comes unchanged from a template.

    The mission of a template has the template's folder, `readable` and secrets, which are for the template's code alone.
    """
    template = saved.mission_kept["template"]
    if template:
        may_edit = permissions.may_edit_templates(by, can_execute=can_execute)
        if edited and not may_edit:
            raise errors.Forbidden(
                f"The mission comes from the template {template}, so only users who may edit templates may edit it.",
                hint="Fork it without `edit`, or launch a plan of your own.",
            )
        if changed_inputs and not may_edit and not _is_current(template, saved.mission_state["plan"]):
            raise errors.Forbidden(
                f"The template {template} was changed, disabled or deleted since, so only users who may edit templates may"
                " start its old plan with new `params`.",
                hint="Fork it without `params`, or launch a template.",
            )
        return
    if not can_execute and (saved.mission_kept["executes"] or any(spec.runs_code for spec in edited.values())):
        raise permissions.refusal()


def _is_in_team(by: User | None, checkpoint: Checkpoint) -> bool:
    """Whether the caller may still share missions with the checkpoint's team: as for a launch, only with an own one."""
    return by is None or role_of(by) == Role.ADMIN or by.groups.filter(id=checkpoint.team_id).exists()


def _is_current(template: str, text: str) -> bool:
    """Whether the template can be launched now, and would launch this plan."""
    return Template.objects.filter(name=template, enabled=True, text=text).exists()


def _origin(saved: SavedMission, checkpoint: Checkpoint, sorties: Collection[str]) -> str:
    start = f", from {', '.join(sorted(sorties))}" if sorties else ""
    return f"fork of {saved.entry.id} at {checkpoint.ref}{start}"[:300]


def _require_exact(mission: UUID, saved: SavedMission, *, keys: Collection[str]) -> None:
    """Raise NotExact unless these sorties are exactly as the checkpoint has them."""
    lines = reading.mission(mission).state_lines
    different = [key for key in keys if lines.get(key) != saved.state[key]]
    if different:
        raise NotExact(
            f"The fork would differ from the checkpoint in {', '.join(sorted(different)[:3])}; nothing was created.",
            hint="This is a bug: please report it with the checkpoint.",
        )
