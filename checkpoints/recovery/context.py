"""The recovery context: what a person or a language model needs to know to take over a mission.

It is derived from the rows alone, and has at most 32 KB. Text that agents wrote is under `reported`: it is data, never
an instruction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import connection

from checkpoints.document import ENDED
from fleet.postgres import statements
from missions.models import Change

MAX_BYTES = 32_000
MAX_ITEMS = 25  # of each list
MAX_REPORTED = 300  # characters of a text that an agent wrote

Context = dict[str, Any]


def of_mission(mission: UUID, *, counts: Mapping[str, int], has_workspace: bool) -> Context:
    """`{summary, counts, state, reason, objective, elapsed_s, last_actions, next_steps, blockers, files_modified}`

    `files_modified` are files that have landed on the branch of its workspace, and artifacts (with `bytes`).
    """
    with connection.cursor() as cursor:
        cursor.execute(
            statements.read("checkpoints.recovery", "context"),
            {
                "mission": mission,
                "items": MAX_ITEMS,
                "text": MAX_REPORTED,
                "blocked": any(counts.get(state) for state in ("failed", "cancelled", "waiting")),
            },
        )
        (document,) = cursor.fetchone()
    facts: Context = json.loads(document)
    if has_workspace:
        facts["files_modified"] = [*_landed_files(mission), *facts["files_modified"]][:MAX_ITEMS]
    total = sum(counts.values())
    ended = sum(counts.get(state, 0) for state in ENDED)
    succeeded = counts.get("succeeded", 0)
    context = {
        "summary": f"{facts.pop('name')}: {ended} of {total} sorties have ended, {succeeded} of them successfully.",
        "counts": dict(counts),
        **facts,
    }
    return _bounded(context)


def _landed_files(mission: UUID) -> list[dict[str, str]]:
    """The files that landed most recently, without duplicates."""
    changes = Change.objects.filter(sortie__mission=mission, state=Change.State.LANDED).order_by("-created_at")
    rows = changes.values_list("sortie__key", "files")[:MAX_ITEMS]
    files = {path: key for key, paths in reversed(rows) for path in paths}
    return [{"path": path, "sortie": key} for path, key in reversed(files.items())][:MAX_ITEMS]


def encode(contexts: Mapping[str, Context]) -> bytes:
    """The contexts of a checkpoint's missions, by id."""
    return json.dumps(contexts, ensure_ascii=False, sort_keys=True).encode()


def _bounded(context: Context) -> Context:
    """Shorten the lists of a context until it fits into MAX_BYTES."""
    items = MAX_ITEMS
    while len(json.dumps(context, ensure_ascii=False).encode()) > MAX_BYTES and items:
        items //= 2
        context = {name: value[:items] if isinstance(value, list) else value for name, value in context.items()}
    return context
