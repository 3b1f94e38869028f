"""`fleet_up --run` refuses an invalid plan or input before it starts anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes.supervised import Checkout, checkout

PLAN = "mission: One\ninputs: {top: {type: integer, required: true}}\nsorties:\n  one: {agent: backend, run: x}\n"


@pytest.fixture(scope="module")
def home() -> Iterator[Checkout]:
    with checkout() as new_home:
        yield new_home


@pytest.mark.parametrize(
    "plan, params, words",
    [
        (None, [], "cannot be read: No such file or directory."),
        ("mission: M\nsorties:\n  a: {agent: backend, run: x, needs: [b]}\n", [], "line 3, sorties.a.needs"),
        (PLAN, [], "inputs.top"),
        (PLAN, ["--param", "top=many"], "inputs.top"),
        (PLAN, ["--param", "bottom=1"], '"bottom" is not an input of this plan'),
    ],
)
def test_an_invalid_plan_starts_nothing(
    home: Checkout, tmp_path: Path, plan: str | None, params: list[str], words: str
) -> None:
    path = tmp_path / "plan.yaml"
    if plan is not None:
        path.write_text(plan)
    result = home.manage("fleet_up", "--run", str(path), *params, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert words in result.stderr
    assert not list(home.root.glob("private/logs/*"))
