"""Check the lines of an imported mission before any of them reaches the database.

`lines.schema.json` has the types and lengths. The functions check what a schema cannot express: that each spec loads
and agrees with its sortie's state, and that the sorties form a graph with consistent states. All raise Malformed.
"""

from __future__ import annotations

import graphlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any, NoReturn

import jsonschema_rs

from checkpoints.document import ENDED
from checkpoints.document.buckets import Malformed, key_of
from fleet import values
from missions.plan import SortieSpec, pattern_problem
from missions.states import ended_badly

RAN = frozenset({"succeeded", "failed"})


@dataclass(frozen=True, slots=True)
class ImportedArtifact:
    path: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedSortie:
    """A checked sortie of an import: what the import needs besides its lines."""

    spec: SortieSpec
    state: str
    order: int
    needs: tuple[str, ...]
    added_by: str | None
    artifacts: tuple[ImportedArtifact, ...]
    kept: Mapping[str, Any]  # the parts of its kept line that describe its outcome
    workspace: Mapping[str, Any] | None  # the `workspace` part of its state line
    workspace_kept: Mapping[str, Any] | None  # and that of its kept line

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def satisfies_need(self, *, always: bool) -> bool:
        """Whether a sortie that needs this one may start. `always`: that sortie has `if: always`."""
        return self.ended and (always or not ended_badly(state=self.state, tolerated=self.spec.allow_failure))


def mission(state_line: str, kept_line: str, *, plan_bytes: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Check the mission's own two lines, and return their content."""
    state, kept = _parse(state_line, "mission", "the mission"), _parse(kept_line, "mission_kept", "the mission")
    if len(state["plan"].encode()) > plan_bytes:
        raise Malformed(f"the mission's plan has more than {plan_bytes:,} bytes")
    return state, kept


def sortie(state_line: str, kept_line: str, *, result_bytes: int) -> ImportedSortie:
    """Check the two lines of a sortie, individually and against each other."""
    where = f"the sortie {key_of(state_line)[:100]!r}"
    state, kept = _parse(state_line, "sortie", where), _parse(kept_line, "sortie_kept", where)

    def refuse(reason: str) -> NoReturn:
        raise Malformed(f"{where} {reason}")

    if not key_of(state_line) == key_of(kept_line) == state["key"] == kept["key"]:
        refuse("has lines with different keys")
    spec = _spec(state["spec"], where)
    _check_spec(spec, state, where)
    attempted = bool(kept["accepted"])
    if state["state"] in RAN and not attempted:
        refuse(f"has {state['state']} without an attempt")
    if attempted and kept["outcome"] in (None, "running"):
        refuse("has an attempt without an outcome")
    if state["state"] == "succeeded" and kept["outcome"] != "succeeded":
        refuse("has succeeded, but its attempt did not")
    if not (attempted and state["state"] in ENDED) and (
        state["result"] is not None or state["error"] or state["artifacts"]
    ):
        refuse("has results before it has ended")
    if state["reason"] and state["state"] not in ("skipped", "cancelled"):
        refuse("has a reason, but was neither skipped nor cancelled")
    try:
        values.check(state["result"], max_bytes=result_bytes)
    except values.Unacceptable as error:
        refuse(f"has a result that cannot be stored: {error}")
    artifacts = tuple(ImportedArtifact(file["path"], file["digest"], file["size"]) for file in state["artifacts"])
    if len({file.path for file in artifacts}) != len(artifacts):
        refuse("has two artifacts with the same path")
    for path in (*spec.outputs, *(file.path for file in artifacts)):
        if ".." in path.split("/"):
            refuse(f"names a file outside its folder: {path[:100]!r}")
    needs = tuple(key for key, _ in state["needs"])
    if len(set(needs)) != len(needs) or any(name != key.partition("[")[0] for key, name in state["needs"]):
        refuse("lists a need twice, or under the wrong name")
    workspace, workspace_kept = state.get("workspace"), kept.get("workspace")
    if workspace is not None and (problem := _workspace_problem(workspace, workspace_kept, result_bytes)):
        refuse(problem)
    names = ("outcome", "outcome_at", "started_at", "finished_at", "exit_code", "cpu_s", "max_rss_bytes", "note")
    return ImportedSortie(
        spec=spec,
        state=state["state"],
        order=state["order"],
        needs=needs,
        added_by=state["added_by"],
        artifacts=artifacts,
        kept={"attempted": attempted, **{name: kept[name] for name in names}},
        workspace=workspace,
        workspace_kept=workspace_kept,
    )


def _workspace_problem(state: Mapping[str, Any], kept: Mapping[str, Any] | None, result_bytes: int) -> str:
    """What is wrong with the `workspace` parts of a sortie's lines; "" if nothing is."""
    names = ("changes", "conflicts", "reservations")
    if kept is None or any(len(state[name]) != len(kept.get(name, ())) for name in names):
        return "has changes, conflicts or reservations in only one of its lines"
    for reservation in state["reservations"]:
        if pattern_problem(reservation["pattern"]):
            return f"reserves files with the pattern {reservation['pattern'][:100]!r}, which no plan may have"
    for change in state["changes"]:
        try:
            if change["result"] is not None:
                values.parse(change["result"], max_bytes=result_bytes)
        except ValueError as error:  # values.Unacceptable is a ValueError
            return f"has a change whose result cannot be stored: {error}"
    return ""


def check_graph(sorties: Mapping[str, ImportedSortie], *, state: str, max_sorties: int, max_needs: int) -> None:
    """Check that the sorties of a mission in this state can exist together."""
    if not 0 < len(sorties) <= max_sorties:
        raise Malformed(f"the mission has {len(sorties):,} sorties; 1 to {max_sorties:,} are allowed")
    if (needs := sum(len(sortie.needs) for sortie in sorties.values())) > max_needs:
        raise Malformed(f"the sorties have {needs:,} needs in all; at most {max_needs:,} are allowed")
    # A sortie follows the one that added it, so no order exceeds the number of sorties.
    orders = [sortie.order for sortie in sorties.values()]
    if min(orders) != 0 or max(orders) > max_sorties:
        raise Malformed("the order of the sorties does not begin at 0, or has gaps that are too large")
    for key, sortie in sorties.items():
        _check_needs(key, sortie, sorties)
        _check_state(key, sortie, sorties)
        if sortie.added_by is not None and sortie.added_by not in sorties:
            raise Malformed(f"the sortie {key!r} was added by a sortie that does not exist")
    _check_acyclic({key: sortie.needs for key, sortie in sorties.items()}, "the needs form a cycle")
    adders = {key: [sortie.added_by] for key, sortie in sorties.items() if sortie.added_by is not None}
    _check_acyclic(adders, "the sorties have added each other")
    _check_mission_state(state, sorties.values())


def _check_needs(key: str, sortie: ImportedSortie, sorties: Mapping[str, ImportedSortie]) -> None:
    for need in sortie.needs:
        if need not in sorties:
            raise Malformed(f"the sortie {key!r} needs {need!r}, which does not exist")
    # A restore or fork may have removed a need, and an added sortie with `before` may have added one.
    planned, actual = set(sortie.spec.needs), set(sortie.needs)
    missing = [need for need in planned - actual if need in sorties]
    unplanned = [need for need in actual - planned if key not in sorties[need].spec.before]
    if missing or unplanned:
        raise Malformed(f"the sortie {key!r} does not have the needs of its spec")


def _check_state(key: str, sortie: ImportedSortie, sorties: Mapping[str, ImportedSortie]) -> None:
    for need in sortie.needs:
        upstream = sorties[need]
        if sortie.state == "due" and not upstream.satisfies_need(always=sortie.spec.always):
            raise Malformed(f"the sortie {key!r} is due before {need!r} has ended")
        # A tolerated failure can be retried after its dependents have run.
        if sortie.state in RAN and not upstream.ended and not upstream.spec.allow_failure:
            raise Malformed(f"the sortie {key!r} has {sortie.state} before {need!r} has ended")


def _check_mission_state(state: str, sorties: Iterable[ImportedSortie]) -> None:
    if state == "live":
        return
    bad = False
    for sortie in sorties:
        if not sortie.ended:
            raise Malformed(f"the mission is recorded as {state}, but not all of its sorties have ended")
        bad = bad or ended_badly(state=sortie.state, tolerated=sortie.spec.allow_failure)
    if state != "cancelled" and bad is not (state == "failed"):
        raise Malformed(f"the mission is recorded as {state}, which does not match the states of its sorties")


def _check_acyclic(graph: Mapping[str, Iterable[str]], message: str) -> None:
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        raise Malformed(message) from error


def _parse(line: str, kind: str, where: str) -> dict[str, Any]:
    """Parse a line, and check its values and its schema."""
    try:
        data = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"a line of {where} is not JSON") from error
    if not isinstance(data, dict):
        raise Malformed(f"a line of {where} is not an object")
    try:
        for name, value in data.items():
            # Values are checked one by one, because the limit of nesting applies to each of them, also within a spec.
            # Changes may have specs too, of sorties that they would add.
            for item in value.values() if name == "spec" and isinstance(value, dict) else _parts(name, value):
                values.check(item)
            values.check(name)
        for name in data["spec"] if isinstance(data.get("spec"), dict) else ():
            values.check(name)
    except values.Unacceptable as error:
        raise Malformed(f"a line of {where} is not acceptable: {error}") from error
    try:
        _validator(kind).validate(data)
    except jsonschema_rs.ValidationError as error:
        at = "/".join(map(str, error.instance_path))
        raise Malformed(
            f"a line of {where} does not follow the schema at /{at[:100]}: {error.message[:200]}"
        ) from error
    return data


def _parts(name: str, value: Any) -> Iterable[Any]:
    """The values to check separately: those of the changes of a workspace, without the sorties that they would add."""
    if name != "workspace" or not isinstance(value, dict) or not isinstance(value.get("changes"), list):
        return [value]
    changes = [change if isinstance(change, dict) else {"": change} for change in value["changes"]]
    return [
        {key: part for key, part in value.items() if key != "changes"},
        *({key: part for key, part in change.items() if key != "added_sorties"} for change in changes),
    ]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _spec(data: Mapping[str, Any], where: str) -> SortieSpec:
    try:
        spec = SortieSpec.from_json(data)
        if spec.run_at is not None:
            if spec.run_at.utcoffset() is None:
                raise ValueError("run_at has no timezone")
            spec.run_at.astimezone(UTC)  # as Postgres stores it
    except (ValueError, TypeError, OverflowError, OSError) as error:
        raise Malformed(f"the spec of {where} does not load") from error
    return spec


def _check_spec(spec: SortieSpec, state: Mapping[str, Any], where: str) -> None:
    expected = {
        "key": spec.key,
        "type": spec.agent_type,
        "always": spec.always,
        "allow_failure": spec.allow_failure,
        "max_tries": spec.retry.max_attempts,
        "concurrency_key": spec.concurrency.key if spec.concurrency else None,
    }
    if different := [name for name, value in expected.items() if state[name] != value]:
        raise Malformed(f"{where} and its spec differ in {different[0]}")
    numbers = (spec.priority, spec.retry.max_attempts, spec.concurrency.limit if spec.concurrency else 1)
    if not all(type(number) is int for number in numbers):
        raise Malformed(f"the spec of {where} has a float instead of an integer")  # 1.0 satisfies the schema
    if spec.name != spec.key.partition("[")[0]:
        raise Malformed(f"{where} has a different name from its spec")
    work = {"command": spec.run, "python": spec.call, "prompt": spec.prompt}
    expected_work = [spec.driver] if spec.driver in work else []
    if [driver for driver, value in work.items() if value is not None] != expected_work:
        raise Malformed(f"{where} has work for a driver other than {spec.driver!r}")
    if not (spec.matrix_needs <= spec.groups.keys() and spec.secret_env <= spec.env.keys()):
        raise Malformed(f"the spec of {where} names needs or variables that it does not have")
    if any(len(keys) != 1 for need, keys in spec.groups.items() if need not in spec.matrix_needs):
        raise Malformed(f"the spec of {where} has a need that stands for several sorties")


def parse_time(text: str | None) -> datetime | None:
    """Parse a time of an outcome. None if it is invalid or in the future: these times are only shown to people."""
    try:
        time = datetime.fromisoformat(text or "").astimezone(UTC)
        return time if datetime(2000, 1, 1, tzinfo=UTC) < time <= datetime.now(UTC) else None
    except (ValueError, OverflowError, OSError):
        return None


@cache
def _validator(kind: str) -> Any:
    schema = json.loads(
        resources.files("checkpoints.document").joinpath("lines.schema.json").read_text(encoding="utf-8")
    )
    return jsonschema_rs.validator_for(
        {"$schema": schema["$schema"], "$ref": f"#/$defs/{kind}", "$defs": schema["$defs"]}
    )
