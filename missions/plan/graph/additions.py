"""What only the sorties that are added at run time may have: a part in their name, and `before`.

    {"name": "scan[part=3]", "agent": "security", "call": "…", "before": ["report"]}

The part in brackets makes it one of a group: whoever needs it sees the group's results as a list under the name before
the bracket, as those of a matrix. `before` names sorties of the mission that have not started and now need this one too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from missions.plan import loading
from missions.plan.faults import ADDED, Faults, Path, quoted
from missions.plan.graph import matrix
from missions.plan.specs import SortieSpec, Surroundings
from missions.plan.values import Json

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*\[[^\[\]\x00-\x1f\x7f]{1,120}\]")


def added(
    *,
    items: object,
    existing: Collection[str],
    begun: Collection[str] = (),
    parent: str,
    surroundings: Surroundings,
    defaults: Mapping[str, Json],
    inputs: Collection[str] = (),
    priority: int = 0,
) -> tuple[SortieSpec, ...]:
    """The sorties that the sortie `parent` asks to add, as `loading.added` says; PlanError for every fault.

    `begun` are those of `existing` that wait for no other sortie any more, so that none can be put before them.
    `priority` is the one of `parent`. Those that name none take it, and not the one of the plan's `defaults`, which
    `parent` may have been lifted above.
    """
    faults = Faults()  # its own part is a look at each item; what it hands on has a deadline
    plain, names, before = list[object](), dict[str, str](), dict[str, tuple[str, ...]]()
    existing = dict.fromkeys(existing)  # in their order, and quick to look up
    taken = set(existing)
    for index, item in enumerate(items if isinstance(items, list | tuple) else ()):
        if not isinstance(item, Mapping):
            plain.append(item)
            continue
        name: object = item.get("name")
        alias = name
        if isinstance(name, str):
            if name in taken:
                how = "is in the mission already" if name in existing else "is given twice"
                faults.add((f"{ADDED}{parent}",), f"{quoted(name)} {how}.", "Choose another name.")
            # The reader of plans takes neither a name twice nor a part.
            aside = name in taken or _PART.fullmatch(name)
            alias = f"{name.partition('[')[0][:40]}-item-{index + 1}" if aside else name
            taken.add(name)
            names[alias] = name
            if len(name) > matrix.MAX_KEY:
                fault = f"{quoted(name)} has {len(name)} characters; {matrix.MAX_KEY} are allowed."
                faults.add((f"{ADDED}{parent}",), fault, "Choose a shorter name.")
            path = (f"{ADDED}{parent}", name, "before")
            before[alias] = _before(item.get("before", []), path=path, existing=existing, begun=begun, faults=faults)
        plain.append({key: value for key, value in item.items() if key != "before"} | {"name": alias})
    aliases = {name: alias for alias, name in names.items()}
    for one in plain:
        if isinstance(one, dict) and isinstance(needs := one.get("needs"), list):
            one["needs"] = [aliases.get(need, need) if isinstance(need, str) else need for need in needs]
    specs = loading.added(
        items=plain if isinstance(items, list | tuple) else items,
        existing=existing,
        parent=parent,
        surroundings=surroundings,
        defaults={name: value for name, value in defaults.items() if name != "priority"},
        inputs=inputs,
        priority=priority,
        faults=faults,
    )
    return tuple(_named(spec, names, before) for spec in specs)


def _before(
    given: Any, *, path: Path, existing: Collection[str], begun: Collection[str], faults: Faults
) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        faults.add(path, "It is not a list of names.", 'Give a list: ["report"].')
        return ()
    for one in given:
        if one not in existing:
            fix = faults.resembling(one, existing) or "Name one that still waits for others."
            faults.add(path, f"{quoted(one)} is not a sortie of this mission.", fix)
        elif one in begun:
            fault = f"{quoted(one)} has started already, or waits for no other sortie any more."
            faults.add(path, fault, "Name one that still waits for others.")
    return tuple(given)


def _named(spec: SortieSpec, names: Mapping[str, str], before: Mapping[str, tuple[str, ...]]) -> SortieSpec:
    """The spec under the name that it was given. (One with a matrix keeps its keys, and its `before` counts for each.)"""
    return replace(
        spec,
        key=names.get(spec.key, spec.key),
        name=names.get(spec.key, spec.name).partition("[")[0],
        groups={
            names.get(group, group): tuple(names.get(key, key) for key in keys) for group, keys in spec.groups.items()
        },
        before=before.get(spec.name, ()),
    )
