"""The published schema is valid, and it is the one that the validator uses."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema_rs
import pytest

import missions.plan
from missions.plan.document import structure
from tests.missions.plan.plans import problems

SCHEMA = json.loads((Path(missions.plan.__file__).parent / "document" / "schema.json").read_text())


def test_the_schema_is_valid() -> None:
    jsonschema_rs.meta.validate(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_no_key_is_both_known_and_of_a_later_version() -> None:
    known = set(SCHEMA["properties"]) | set(SCHEMA["$defs"]["sortie"]["properties"])
    assert not known & structure.UNSUPPORTED_KEYS


VALUES = {"a text": "x", "a number": 1.5, "a list": [[]], "a mapping": {"zz": {}}, "nothing": None, "true": True}
KEYS = sorted(SCHEMA["$defs"]["sortie"]["properties"])


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_violation_of_the_schema_is_reported_with_its_line(key: str, value: object) -> None:
    work = {} if key in structure.WORK else {"run": "x"}
    sortie = {"agent": "testing", **work, key: value}
    data = {"mission": "M", "sorties": {"a": sortie}}
    allowed = jsonschema_rs.Draft202012Validator(SCHEMA).is_valid(data)
    lines = ["mission: M", "sorties:", "  a:", *(f"    {name}: {json.dumps(item)}" for name, item in sortie.items())]
    line = next(number for number, text in enumerate(lines, 1) if text.startswith(f"    {key}: "))
    found = problems("\n".join(lines))
    if not allowed:
        assert any(item.line == line and item.fix for item in found), [str(item) for item in found]
