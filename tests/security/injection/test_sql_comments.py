"""No SQL comment contains a parameter, because a line break in its value would end the comment."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from missions import operations
from missions.models import Sortie
from tests.support import fleet
from tests.support.paths import CHECKOUT

STATEMENTS = [
    path
    for app in ("fleet", "agents", "missions")
    for path in (CHECKOUT / app).rglob("*.sql")
    if path.parent.name == "sql"
]


@pytest.mark.parametrize("path", STATEMENTS, ids=lambda path: path.stem)
def test_no_comment_contains_a_parameter(path: Path) -> None:
    comments = re.findall(r"--.*", path.read_text(encoding="utf-8"))
    assert not [comment for comment in comments if re.search(r"%\(\w+\)s", comment)]


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_a_reason_with_line_breaks_is_stored_as_it_is() -> None:
    mission = fleet.launch({"one": {}})
    reason = "The branch is wrong.\nDROP TABLE missions_need; --"
    operations.cancel(mission=mission.id, reason=reason)
    assert Sortie.objects.get(mission=mission).waits_for == reason
