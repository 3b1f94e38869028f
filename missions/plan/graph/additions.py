"""Features that only sorties added at run time have: a part in their name, and `before`.

    {"name": "scan[part=3]", "agent": "security", "call": "…", "before": ["report"]}

The part in brackets makes a sortie a member of the group `scan`: a sortie that needs `scan` gets the results of the
group as a list, as with a matrix. `before` names sorties of the mission that have not started and that will also need
this one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from missions.plan import loading
from missions.plan.graph import matrix
from missions.plan.problems import ADDED, Path, Problems, quoted
from missions.plan.specs import PlanContext, SortieSpec
from missions.plan.values import Json

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*\[[^\[\]\x00-\x1f\x7f]{1,120}\]")


def load_added(
    *,
    items: object,
    existing: Collection[str],
    started: Collection[str] = (),
    parent: str,
    context: PlanContext,
    defaults: Mapping[str, Json],
    inputs: Collection[str] = (),
    priority: int = 0,
    workspace: bool = False,
) -> tuple[SortieSpec, ...]:
    """The sorties that the running sortie `parent` adds, as in `loading.load_added`. PlanError lists every problem.

    `started`: those of `existing` that no longer wait for another sortie, so none can be put before them. `priority`:
    that of `parent`. Added sorties without a priority inherit it, and not that of `defaults`, because the priority of
    `parent` may have been raised. `workspace`: whether the mission has one.
    """
    problems = Problems()  # needs no deadline: this reads each item once, and `loading.load_added` sets its own
    plain: list[object] = []
    names: dict[str, str] = {}
    before: dict[str, tuple[str, ...]] = {}
    existing = dict.fromkeys(existing)  # ordered, with fast lookups
    used_names = set(existing)
    for index, item in enumerate(items if isinstance(items, list | tuple) else ()):
        if not isinstance(item, Mapping):
            plain.append(item)
            continue
        name: object = item.get("name")
        alias = name
        if isinstance(name, str):
            if name in used_names:
                reason = "is already in the mission" if name in existing else "appears twice"
                problems.add((f"{ADDED}{parent}",), f"{quoted(name)} {reason}.", "Choose another name.")
            # `loading` accepts neither repeated names nor parts, so such a sortie gets an alias until it is loaded.
            needs_alias = name in used_names or _PART.fullmatch(name)
            alias = f"{name.partition('[')[0][:40]}-item-{index + 1}" if needs_alias else name
            used_names.add(name)
            names[alias] = name
            if len(name) > matrix.MAX_KEY:
                message = f"{quoted(name)} has {len(name)} characters; at most {matrix.MAX_KEY} are allowed."
                problems.add((f"{ADDED}{parent}",), message, "Choose a shorter name.")
            path = (f"{ADDED}{parent}", name, "before")
            before[alias] = _before(
                item.get("before", []), path=path, existing=existing, started=started, problems=problems
            )
        plain.append({key: value for key, value in item.items() if key != "before"} | {"name": alias})
    aliases = {name: alias for alias, name in names.items()}
    for item in plain:
        if isinstance(item, dict) and isinstance(needs := item.get("needs"), list):
            item["needs"] = [aliases.get(need, need) if isinstance(need, str) else need for need in needs]
    specs = loading.load_added(
        items=plain if isinstance(items, list | tuple) else items,
        existing=existing,
        parent=parent,
        context=context,
        defaults={name: value for name, value in defaults.items() if name != "priority"},
        inputs=inputs,
        priority=priority,
        workspace=workspace,
        problems=problems,
    )
    return tuple(_rename(spec, names, before) for spec in specs)


def _before(
    value: Any, *, path: Path, existing: Collection[str], started: Collection[str], problems: Problems
) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(key, str) for key in value):
        problems.add(path, "It is not a list of names.", 'Write a list: ["report"].')
        return ()
    for key in value:
        if key not in existing:
            fix = problems.did_you_mean(key, existing) or "Name a sortie that still waits for others."
            problems.add(path, f"{quoted(key)} is not a sortie of this mission.", fix)
        elif key in started:
            message = f"{quoted(key)} has already started, or no longer waits for another sortie."
            problems.add(path, message, "Name a sortie that still waits for others.")
    return tuple(value)


def _rename(spec: SortieSpec, names: Mapping[str, str], before: Mapping[str, tuple[str, ...]]) -> SortieSpec:
    """The spec with its real name instead of its alias. A matrix keeps its keys; `before` applies to each of them."""
    return replace(
        spec,
        key=names.get(spec.key, spec.key),
        name=names.get(spec.key, spec.name).partition("[")[0],
        groups={
            names.get(group, group): tuple(names.get(key, key) for key in keys) for group, keys in spec.groups.items()
        },
        before=before.get(spec.name, ()),
    )
