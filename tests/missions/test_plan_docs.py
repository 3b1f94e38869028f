"""docs/plan.md holds what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import missions.plan
from tests.missions.plans import load

PAGE = (Path(missions.plan.__file__).parents[2] / "docs" / "plan.md").read_text()
SCHEMA = json.loads((Path(missions.plan.__file__).parent / "schema.json").read_text())


def test_the_worked_example_is_a_valid_plan() -> None:
    example = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0]
    made = {spec.key: spec for spec in load(example).sorties}
    assert len(made) == 8
    assert made["tests[python=3.11]"].run == "tox -e py3.11"
    assert made["package"].many == {"tests"}
    assert made["report"].always


def test_every_key_is_explained() -> None:
    explained = set(re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE))
    known = set(SCHEMA["properties"]) | set(SCHEMA["$defs"]["sortie"]["properties"])
    assert known <= explained
