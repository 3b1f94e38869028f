"""The examples in docs/plan.md and README.md are true."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import missions.plan
from missions import plan
from missions.queries import plan_context
from tests.support.paths import CHECKOUT

PAGE = (CHECKOUT / "docs" / "plan.md").read_text()
SCHEMA = json.loads((Path(missions.plan.__file__).parent / "document" / "schema.json").read_text())
fresh = pytest.mark.django_db(transaction=True, serialized_rollback=True)  # with the agent types of a new fleet


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def load(text: str) -> plan.Plan:
    return plan.load(text=text, context=plan_context.current())


@fresh
def test_each_complete_plan_of_the_pages_is_valid_in_a_new_fleet() -> None:
    pages = [CHECKOUT / "README.md", *(CHECKOUT / "docs").rglob("*.md")]
    plans = [text for page in pages for text in blocks(page.read_text(), "yaml") if re.search(r"^mission:", text, re.M)]
    assert len(plans) >= 2
    for text in plans:
        assert load(text).sorties


@fresh
def test_the_worked_example_has_the_documented_result() -> None:
    specs = {spec.key: spec for spec in load(blocks(PAGE, "yaml")[0]).sorties}
    assert len(specs) == 8
    assert specs["tests[python=3.11]"].run == "tox -e py3.11"
    assert specs["package"].matrix_needs == {"tests"}
    assert specs["report"].always


@fresh
def test_the_sorties_of_the_example_can_be_added() -> None:
    (text,) = blocks(PAGE, "json")
    specs = plan.load_added(
        items=json.loads(text),
        existing=["split", "report"],
        parent="split",
        context=plan_context.current(),
        defaults={},
    )
    assert [(spec.key, spec.before) for spec in specs] == [(f"scan[part={n}]", ("report",)) for n in (1, 2)]


def test_every_key_is_documented() -> None:
    explained = set(re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE))
    known = set(SCHEMA["properties"]) | set(SCHEMA["$defs"]["sortie"]["properties"])
    assert known <= explained
