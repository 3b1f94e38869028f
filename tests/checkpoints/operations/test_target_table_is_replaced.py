"""The table of the sorties to write has exactly the targets of its last replacement."""

from __future__ import annotations

import dataclasses
import json
from uuid import UUID

import pytest
from django.db import connection

from checkpoints.rows.writing import SortieTarget, TargetTable
from fleet import ids

pytestmark = pytest.mark.django_db


def test_targets_are_kept_changed_added_and_removed() -> None:
    kept, changed, removed, added = (_target(name) for name in ("kept", "changed", "removed", "added"))
    table = TargetTable([kept, changed, removed])
    table.replace([kept, dataclasses.replace(changed, state=json.dumps({"key": "other"})), added])
    assert _rows() == {kept.sortie: "kept", changed.sortie: "other", added.sortie: "added"}


def test_a_replacement_with_the_same_targets_writes_nothing() -> None:
    targets = [_target("one"), _target("two")]
    table = TargetTable(targets)
    written = _versions()
    table.replace(targets)
    assert _versions() == written


def _target(key: str) -> SortieTarget:
    line = json.dumps({"key": key})
    return SortieTarget(sortie=ids.new(), created=False, wait_until=None, state=line, kept=line)


def _rows() -> dict[UUID, str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT sortie, state ->> 'key' FROM checkpoint_target")
        return dict(cursor.fetchall())


def _versions() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT ctid::text FROM checkpoint_target ORDER BY sortie")
        return [version for (version,) in cursor.fetchall()]
