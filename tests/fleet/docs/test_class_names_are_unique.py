"""A class has a name of its own, so that its name says which one is meant."""

from __future__ import annotations

import ast
from collections import defaultdict

from tests.fleet.docs.test_docs_name_real_files import tracked
from tests.support.paths import CHECKOUT

ALLOWED = {
    "Command",  # Django finds commands by this name
    "Migration",  # and migrations by this one
    "Conflict",  # `errors.Conflict` is HTTP's; the model is git's
}


def test_no_two_classes_share_a_name() -> None:
    places = defaultdict(list)
    for path in tracked(*(f"{app}/*.py" for app in ("fleet", "agents", "missions", "checkpoints"))):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and node.name not in ALLOWED:
                places[node.name].append(f"{path.relative_to(CHECKOUT)}:{node.lineno}")
    assert "Mission" in places
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
