"""Checkpoints, recovery plans and differences as JSON of limited size, without secrets."""

from __future__ import annotations

import json
from typing import Any

from checkpoints.models import Checkpoint
from checkpoints.operations import Difference
from checkpoints.queries import summaries
from checkpoints.recovery.plan import LISTS, RecoveryPlan
from missions.plan import masked_spec

MAX_MISSIONS = 20  # with their recovery contexts, each of which may have 32 KB
MAX_KEYS = 1_000  # of each list
MAX_CHANGES = 200  # changed sorties, with values
MAX_VALUE = 2_000  # characters of a changed value as JSON
WITHHELD = ("plan", "defaults")  # parts of a mission that may contain secrets


def detail(checkpoint: Checkpoint, *, fleet: bool) -> dict[str, Any]:
    """The checkpoint with the contents of its first MAX_MISSIONS missions. `fleet`: with agent types and limits."""
    data = summaries.detail(checkpoint)
    contents = data["contents"]
    return {
        **data,
        "contents": contents[:MAX_MISSIONS],
        "truncated": len(contents) > MAX_MISSIONS,
        "fleet": data["fleet"] if fleet else None,
    }


def recovery_plan(plan: RecoveryPlan) -> dict[str, Any]:
    """The plan with its digest, the first MAX_KEYS keys of each list, and the length of each list in `counts`."""
    data = plan.as_json()
    return {
        **data,
        "digest": plan.digest,
        "counts": {name: len(data[name]) for name in LISTS},
        **{name: data[name][:MAX_KEYS] for name in LISTS},
    }


def difference(difference: Difference) -> dict[str, Any]:
    """The difference, with `counts`. `omitted` names the parts whose values are too long or may be secret."""
    mission, omitted = _parts(difference.mission)
    changes = []
    for change in difference.changed[:MAX_CHANGES]:
        parts, omitted_parts = _parts(change.parts)
        changes.append({"key": change.key, "parts": parts, "omitted": omitted_parts})
    return {
        "mission": mission,
        "omitted": omitted,
        "added": list(difference.added[:MAX_KEYS]),
        "removed": list(difference.removed[:MAX_KEYS]),
        "changed": changes,
        "counts": {name: len(getattr(difference, name)) for name in ("added", "removed", "changed")},
    }


def _parts(parts: dict[str, tuple[Any, Any]]) -> tuple[dict[str, list[Any]], list[str]]:
    """The parts with both of their values, and the names of the parts whose values are omitted."""
    values = {name: list(map(_masked, pair)) if name == "spec" else list(pair) for name, pair in parts.items()}
    omitted = [name for name, pair in values.items() if name in WITHHELD or any(_length(v) > MAX_VALUE for v in pair)]
    return {name: pair for name, pair in values.items() if name not in omitted}, omitted


def _masked(spec: Any) -> Any:
    return masked_spec(spec) if isinstance(spec, dict) else spec


def _length(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False))
