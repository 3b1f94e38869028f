"""A valid plan gets a warning if data becomes code: in a shell's -c, or in a variable that programs obey."""

from __future__ import annotations

from typing import Any

import pytest

from missions import plan
from missions.plan import PlanContext
from tests.support import api

CONTEXT = PlanContext(types=None, callables=(), drivers=(), max_sorties=10, max_bytes=10_000, max_added=10)


def warnings_for(**sortie: Any) -> list[str]:
    data = {
        "mission": "x",
        "inputs": {"a": {}},
        "sorties": {
            "up": {"agent": "t", "run": "true"},
            "s": {"agent": "t", "run": ["true"], "needs": ["up"], **sortie},
        },
    }
    return [warning.where for warning in plan.warnings(plan.from_data(data=data, context=CONTEXT))]


@pytest.mark.parametrize(
    "run",
    [
        ["sh", "-c", "echo {{ inputs.a }}"],
        ["/bin/bash", "-ec", "echo {{ needs.up.result }}"],
        ["env", "A=b", "sh", "-x", "-c", "{{ inputs.a }}"],
        ["python3", "-c", "print('{{ inputs.a }}')"],
        ["perl", "-e", "{{ inputs.a }}"],
    ],
)
def test_inputs_in_shell_code_get_a_warning(run: list[str]) -> None:
    assert warnings_for(run=run) == ["sorties.s.run"]
    assert warnings_for(verify=run) == ["sorties.s.verify"]


@pytest.mark.parametrize(
    "run",
    [
        ["sh", "-c", 'echo "$1"', "sh", "{{ inputs.a }}"],
        ["echo", "-c", "{{ inputs.a }}"],
        ["sh", "-c", "{{ sortie.key }}"],
    ],
)
def test_arguments_after_the_shell_code_get_no_warning(run: list[str]) -> None:
    assert warnings_for(run=run) == []


@pytest.mark.parametrize(
    "name", ["LD_PRELOAD", "PATH", "BASH_ENV", "GIT_SSH_COMMAND", "GIT_DIR", "PYTHONPATH", "NODE_OPTIONS"]
)
def test_inputs_in_variables_that_programs_obey_get_a_warning(name: str) -> None:
    assert warnings_for(env={name: "/x/{{ inputs.a }}"}) == [f"sorties.s.env.{name}"]
    assert warnings_for(env={name: "/x"}) == []
    assert warnings_for(env={f"MY_{name}": "{{ inputs.a }}"}) == []


@pytest.mark.django_db
def test_the_check_over_http_returns_the_warnings() -> None:
    ann = api.person("ann")
    data = {
        "mission": "x",
        "inputs": {"a": {}},
        "sorties": {"s": {"agent": "backend", "run": ["sh", "-c", "{{ inputs.a }}"]}},
    }
    (warning,) = ann.post("plans/check", {"plan": data}).json()["warnings"]
    assert warning["where"] == "sorties.s.run"
    assert "can run anything" in warning["detail"]
