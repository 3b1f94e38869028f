"""Loads plans, and the sorties that a running sortie adds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from fleet import errors
from missions.plan import inputs, masking
from missions.plan.document import parsing, structure
from missions.plan.document.deadline import Deadline
from missions.plan.document.source import Source
from missions.plan.graph import fields
from missions.plan.graph.sorties import Graph
from missions.plan.problems import ADDED, Path, PlanError, Problems, quoted
from missions.plan.specs import InputSpec, Plan, PlanContext, SortieSpec, WorkspaceSpec
from missions.plan.values import Json

POINTER = "/plan/"  # the prefix of pointers into a plan
FORMAT = "Start with mission: and sorties:, as in docs/plan.md."


def load(*, text: str | bytes, context: PlanContext) -> Plan:
    """The plan in a YAML or JSON text. PlanError lists every problem with its line."""
    problems = Problems(deadline=Deadline(context.max_s))
    with problems.timed():
        source = parsing.read(text=text, max_bytes=context.max_bytes, problems=problems)
        return _plan(source, context, problems)


def from_data(*, data: Mapping[str, Any], context: PlanContext) -> Plan:
    """The plan in data that is already parsed; `data` is copied. PlanError lists every problem, without lines."""
    problems = Problems(deadline=Deadline(context.max_s))
    with problems.timed():
        source = parsing.copy(data=data, max_bytes=context.max_bytes, problems=problems)
        return _plan(source, context, problems)


def with_line(*, error: errors.Invalid, text: str | bytes, context: PlanContext) -> errors.Invalid:
    """Turn an error of a launch into a PlanError with the line that the error's `pointer` names.

    Returns the error unchanged if its pointer names nothing in the plan.
    """
    if not error.pointer.startswith(POINTER) or isinstance(error, PlanError):
        return error
    problems = Problems(deadline=Deadline(context.max_s))
    parsing.read(text=text, max_bytes=context.max_bytes, problems=problems)
    problems.add(tuple(error.pointer.removeprefix(POINTER).split("/")), error.message, error.hint)
    try:
        problems.fail()
    except PlanError as located:
        return located


def load_added(
    *,
    items: object,
    existing: Collection[str],
    parent: str,
    context: PlanContext,
    defaults: Mapping[str, Json],
    inputs: Collection[str] = (),
    priority: int = 0,
    workspace: bool = False,
    problems: Problems,
) -> tuple[SortieSpec, ...]:
    """The sorties that the running sortie `parent` adds: a list of mappings as in a plan, each with a "name".

    They may need each other, and sorties in `existing` (keys of the mission, in its order). `defaults`, `inputs` and
    `priority` are what they inherit. `workspace`: whether the mission has one. PlanError lists every problem,
    including those already in `problems`.
    """
    problems.deadline = Deadline(context.max_s)
    with problems.timed():
        source = parsing.copy(data=items, max_bytes=context.max_bytes, problems=problems)
        sorties = _by_name(source.data, path=(f"{ADDED}{parent}",), context=context, problems=problems)
        if not sorties:
            problems.check()
            return ()
        names = list(sorties)
        source.data = {"mission": parent or "added", "sorties": sorties}
        broken = structure.check(source=source, problems=problems)
        graph = Graph(
            defaults=defaults,
            inputs=inputs,
            context=context,
            limit=context.max_added,
            problems=problems,
            priority=priority,
            existing=existing,
            workspace=workspace,
        )
        specs = graph.specs(data=sorties, names=names, broken=broken, is_read=source.is_read)
        problems.check()
        return specs


def _by_name(items: object, *, path: Path, context: PlanContext, problems: Problems) -> dict[str, Any]:
    """The sorties to add, by the name that is taken out of each. Adds a problem for each item without a valid one."""
    if not isinstance(items, list):
        problems.add(path, "The sorties to add are not a list.", 'Write a list: [{"name": …, "agent": …, "run": …}].')
        problems.fail()
    if len(items) > context.max_added:
        message = f"There are {len(items):,} sorties to add; at most {context.max_added:,} are allowed."
        problems.add(path, message, "Add fewer, with more work in each.")
        problems.fail()
    sorties: dict[str, Any] = {}
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            message = f"Item {index + 1} is {structure.describe(item)}, but must be a mapping."
            problems.add(path, message, 'Write a mapping: {"name": …, "agent": …, "run": …}.')
            continue
        name = item.pop("name", None)
        if not isinstance(name, str):
            problems.add(path, f"Item {index + 1} has no name.", 'Give it a "name", as a string.')
        elif name in sorties:
            problems.add(path, f"{quoted(name)} appears twice.", "Choose another name.")
        else:
            sorties[name] = item
    return sorties


def fragment_names(*, text: str | bytes, context: PlanContext) -> tuple[str, ...]:
    """The names of the sorties in a fragment, before it is checked any further."""
    return tuple(_fragment(text, context, Problems(deadline=Deadline(context.max_s))))


def _fragment(text: str | bytes, context: PlanContext, problems: Problems) -> dict[str, Any]:
    data = parsing.read(text=text, max_bytes=context.max_bytes, problems=problems).data
    sorties = data.get("sorties") if isinstance(data, dict) and set(data) == {"sorties"} else None
    if not isinstance(sorties, dict) or not sorties:
        problems.add(
            (), "A fragment contains `sorties` and nothing else.", "Write: sorties: {name: {agent: …, run: …}}."
        )
        problems.fail()
    return {str(name): item for name, item in sorties.items()}


def fragment(
    *,
    text: str | bytes,
    existing: Collection[str],
    context: PlanContext,
    defaults: Mapping[str, Json],
    inputs: Collection[str],
    workspace: bool = False,
) -> tuple[SortieSpec, ...]:
    """Read new versions of some sorties of a mission: YAML or JSON, `sorties: {name: …}` as in a plan.

    `existing` are the keys of its other sorties. PlanError lists every problem.
    """
    problems = Problems(deadline=Deadline(context.max_s))
    sorties = _fragment(text, context, problems)
    items = [{**item, "name": name} if isinstance(item, dict) else item for name, item in sorties.items()]
    return load_added(
        items=items,
        existing=existing,
        parent="",
        context=context,
        defaults=defaults,
        inputs=inputs,
        workspace=workspace,
        problems=problems,
    )


def _plan(source: Source, context: PlanContext, problems: Problems) -> Plan:
    data = source.data
    if not isinstance(data, dict):
        problems.add((), "The plan is empty." if data is None else "The plan is not a mapping.", FORMAT)
        problems.fail()
    names = list(data["sorties"]) if isinstance(data.get("sorties"), dict) else []
    if len(names) > context.max_sorties:
        message = f"The plan has {len(names):,} sorties; at most {context.max_sorties:,} are allowed."
        problems.add(("sorties",), message, "Split it into several plans.")
        problems.fail()
    broken = structure.check(source=source, problems=problems)
    for key in ("mission", "objective"):
        if "{{" in data.get(key, ""):
            problems.add((key,), "Templates cannot be used here.", "Write the text out.")
    input_specs = inputs.parse_declarations(
        data=data.get("inputs", {}), path=("inputs",), broken=broken, problems=problems
    )
    readable = data.get("readable", [])
    fields.check_templates(
        value=readable,
        path=("readable",),
        allowed=frozenset({"inputs"}),
        needs=None,
        inputs=input_specs,
        axes={},
        problems=problems,
    )
    defaults = data.get("defaults", {})
    graph = Graph(
        defaults=defaults,
        inputs=input_specs,
        context=context,
        limit=context.max_sorties,
        problems=problems,
        priority=data.get("priority", 0),
        workspace="workspace" in data or ("workspace",) in broken,
    )
    sorties = graph.specs(data=data.get("sorties", {}), names=names, broken=broken, is_read=source.is_read)
    policy = _checkpoints(data.get("checkpoints", {}), problems)
    workspace = _workspace(data["workspace"], input_specs, problems) if "workspace" in data else None
    problems.check()
    return Plan(
        name=data["mission"],
        objective=data.get("objective", ""),
        readable=tuple(path for path in readable if path is not None),
        inputs=input_specs,
        on_failure=data.get("on_failure", "continue"),
        max_running=data.get("concurrency", 0),
        priority=data.get("priority", 0),
        sorties=sorties,
        defaults=defaults,
        checkpoints=policy,
        workspace=workspace,
        warnings=masking.warnings(data),
    )


def _checkpoints(data: Mapping[str, Any], problems: Problems) -> dict[str, Json]:
    every_s = fields.duration(data=data, key="every", path=("checkpoints",), problems=problems)
    policy: dict[str, Json] = {name: value for name, value in data.items() if name != "every"}
    return policy if every_s is None else {**policy, "every_s": every_s}


def _workspace(data: Mapping[str, Any], input_specs: Mapping[str, InputSpec], problems: Problems) -> WorkspaceSpec:
    for key, value in data.items():
        if key not in ("repository", "setup", "verify"):
            if "{{" in str(value):
                problems.add(("workspace", key), "Templates cannot be used here.", "Write the text out.")
            continue
        fields.check_templates(
            value=value,
            path=("workspace", key),
            allowed=frozenset({"inputs"}),
            needs=None,
            inputs=input_specs,
            axes={},
            problems=problems,
            shell=isinstance(value, str) and key != "repository",
        )
    commands = {
        key: tuple(str(word) for word in data[key]) if isinstance(data[key], list) else data[key]
        for key in ("setup", "verify")
        if key in data
    }
    return WorkspaceSpec(**{**data, **commands})
