"""A plan with every key of the format runs, and each key does what the docs say."""

from __future__ import annotations

from pathlib import Path

import pytest

from missions import operations, plan
from missions.plan.document import structure
from missions.queries import mission_results, plan_context, sortie_json
from tests.support import fleet

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

WHO = "Ada; touch '$HOME' `x`"

PLAN = (Path(__file__).parent / "every_key.yaml").read_text()

SUCCEEDED = {
    "argv": {"output": f'{WHO}|Every key of the format|argv|{{"top": 4, "who": "{WHO}", "tags": ["t", 1]}}|'},
    "greet": {"output": f"yes {WHO} 4 t 4"},
    "parts[os=linux,v=2]": "linux-2",
    "parts[os=bsd,v=3]": "bsd-3",
    "all": ["linux-1", "linux-2", "mac-2", "bsd-3"],
    "one": {"output": "linux-2\n"},
    "flaky": {"output": "second\n"},
    "after": {"output": "tolerated\n"},
    "tidy": {"output": '{"broken": "failed", "skipped": "skipped"}\n'},
    "place": {"output": "/tmp\n"},
    "join": [{"output": "one\n"}, {"output": "two\n"}],
    "later": {"output": "late\n"},
    "literal": {"output": "{{ not a template }}\n"},
    "checked": {"who": WHO, "top": 4, "tags": ["t", 1]},
}
FAILED = {
    "slow": "longer than its timeout of 0.3 s",
    "silent": "printed nothing for 0.3 s",
    "liar": "`verify` failed",
    "broken": "exit code 3",
    "bad_adder": "Item 1 has no name.",
}


def test_every_key_does_what_the_docs_say() -> None:
    parsed = plan.load(text=PLAN, context=plan_context.current())
    values = {"who": WHO, "top": "4", "tags": '["t", 1]'}
    mission = operations.launch(
        plan=parsed, text=PLAN, params=values, folder="", by=None, can_execute=True, operator=True
    )
    engine = fleet.engine(slots=4)
    try:
        assert fleet.run_to_end(engine, mission) == "failed"
    finally:
        engine.stop(within_s=5)
    items = {item["key"]: item for item in sortie_json.of_mission(mission)}
    assert {key: items[key]["result"] for key in SUCCEEDED} == SUCCEEDED
    assert {key for key, item in items.items() if item["state"] == "failed"} == set(FAILED)
    for key, words in FAILED.items():
        assert words in items[key]["error"]
    assert "Item 2 is empty, but must be a mapping." in items["bad_adder"]["error"]
    assert '"argv" has already started' in items["bad_adder"]["error"]
    assert items["flaky"]["attempt"] == 2
    assert items["skipped"]["waits_for"] == "It was skipped because broken did not succeed."
    assert set(items["join"]["needs"]) == {"adder", "scan[p=1]", "scan[p=2]"}
    assert [(file.sortie.key, file.path, file.size) for file in mission_results.artifacts(mission)] == [
        ("keep", "out/a.txt", 5)
    ]


def test_the_plan_uses_every_key_that_needs_no_configuration() -> None:
    keys = set(structure.SCHEMA["properties"]) | set(structure.SCHEMA["$defs"]["sortie"]["properties"])
    covered_by_other_tests = {"$schema", "call", "with", "prompt", "driver", "workspace", "touches", "reads", "changes"}
    assert {key for key in keys if f"{key}:" not in PLAN} <= covered_by_other_tests
