"""An error that a retry would repeat, such as one in the plan or the result, fails the sortie at once."""

from __future__ import annotations

from typing import Any

import pytest

from missions.engine.process.runtime import Engine
from missions.models import Attempt
from missions.queries import sortie_json
from tests.support import fleet

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

RETRY = {"max_attempts": 3, "backoff": "1ms", "jitter": False}
HERE = "tests.contracts.callables"


def attempts(engine: Engine, sortie: dict[str, Any]) -> tuple[int, str]:
    mission = fleet.launch(
        {"one": {"with": {"result": {"a": "\U0001f600" * 40_000}}}, "it": {"needs": ["one"], "retry": RETRY, **sortie}}
    )
    assert fleet.run_to_end(engine, mission) == "failed"
    found = Attempt.objects.filter(sortie__mission=mission, sortie__key="it").order_by("number")
    return len(found), found.last().error  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "sortie, words",
    [
        ({"run": "head -c 2000000 /dev/zero | tr '\\0' 1 > $FLEET_RESULT"}, "is larger than 1,000,000 bytes"),
        ({"run": "echo '{\"a\": [NaN]}' > $FLEET_RESULT"}, "the value at /a/0 is not a finite number"),
        ({"run": "printf '[\"a\\\\u0000\"]' > $FLEET_RESULT"}, "the value at /0 contains a NUL"),
        ({"run": "echo '{' > $FLEET_RESULT"}, "is not JSON"),
        (
            {"run": ["python3", "-c", "import os; open(os.environ['FLEET_RESULT'], 'w').write('[' * 960 + ']' * 960)"]},
            "is nested more than 40 levels deep",
        ),
        ({"run": ["true", "{{ needs.one.result.a }}"]}, "too long for the system"),
        ({"run": ["no-such-program"]}, "'no-such-program' was not found"),
        ({"run": "true", "cwd": "/no/such/folder"}, "lies outside the folders that the sortie may use"),
        ({"run": ["echo", "{{ needs.one.result.b }}"]}, 'so it has no "b"'),
        ({"run": "echo '[{}]' > $FLEET_SORTIES"}, "has no name"),
        ({"run": "echo 3 > $FLEET_SORTIES"}, "not a list"),
        ({"run": "true", "verify": ["no-such-program"]}, "'no-such-program' was not found"),
    ],
)
def test_a_permanent_error_is_not_retried(engine: Engine, sortie: dict[str, Any], words: str) -> None:
    tries, error = attempts(engine, sortie)
    assert words in error
    assert tries == 1


@pytest.mark.parametrize(
    "sortie, words",
    [
        ({"run": "exit 3"}, "exit code 3"),
        ({"run": "kill -9 $$"}, "signal 9"),
        ({"run": "sleep 60", "timeout": "0.2s"}, "longer than its timeout"),
        ({"run": "true", "verify": "false"}, "`verify` failed"),
        ({"run": "true", "outputs": ["not/made"]}, "did not produce"),
        ({"with": {"raise": "an error of a driver"}}, "an error of a driver"),
    ],
)
def test_an_error_that_may_pass_is_retried(engine: Engine, sortie: dict[str, Any], words: str) -> None:
    tries, error = attempts(engine, sortie)
    assert words in error
    assert tries == 3


def test_a_refused_result_leaves_its_mission_readable(engine: Engine) -> None:
    mission = fleet.launch(
        {"deep": {"run": ["python3", "-c", "print('[' * 960 + ']' * 960)"]}, "next": {"needs": ["deep"]}}
    )
    assert fleet.run_to_end(engine, mission) == "succeeded"  # a text has no depth
    assert {item["key"] for item in sortie_json.of_mission(mission)} == {"deep", "next"}


def test_the_list_of_added_sorties_has_a_limit_of_its_own(engine: Engine, settings: Any) -> None:
    settings.FLEET_RESULT_BYTES = 100
    settings.FLEET_ADDED_BYTES = 1_000
    item = '{"name": "NAME", "agent": "backend", "run": "true"}'
    several = ", ".join(item.replace("NAME", f"part{number}") for number in range(5))
    mission = fleet.launch({"fits": {"run": f"echo '[{several}]' > $FLEET_SORTIES"}})
    assert fleet.run_to_end(engine, mission) == "succeeded"
    tries, error = attempts(engine, {"run": "head -c 2000 /dev/zero | tr '\\0' 1 > $FLEET_SORTIES"})
    assert (tries, "is larger than 1,000 bytes" in error) == (1, True)
