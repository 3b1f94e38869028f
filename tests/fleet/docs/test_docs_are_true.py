"""Facts in the pages match the code."""

from __future__ import annotations

import ast
import re

from missions.states import MISSION_ARROWS, SORTIE_ARROWS, Arrow, MissionState, SortieState
from tests.support.paths import CHECKOUT


def in_diagram(arrow: Arrow) -> bool:
    """A restore leads from almost every state to every other, so its arrows are only in the table."""
    return not arrow.by.startswith("restore")


def test_the_page_of_states_lists_every_transition_with_its_letter() -> None:
    page = (CHECKOUT / "docs" / "states.md").read_text()
    for arrow in (*SORTIE_ARROWS, *MISSION_ARROWS):
        row = f"| {arrow.letter} | {', '.join(sorted(arrow.sources)) or '–'} | {arrow.target} | {arrow.by} | {arrow.why} |"
        assert row in page
        for source in (sorted(arrow.sources) or ["[*]"]) if in_diagram(arrow) else []:
            assert f"    {source} --> {arrow.target}: {arrow.letter}\n" in page
    assert len(re.findall(r" --> ", page)) == sum(
        len(arrow.sources) or 1 for arrow in (*SORTIE_ARROWS, *MISSION_ARROWS) if in_diagram(arrow)
    )
    for state in (*SortieState, *MissionState):
        assert f"| {state} | " in page


def test_every_setting_has_a_row() -> None:
    variables = set(re.findall(r'env\.\w+\("(\w+)"', (CHECKOUT / "fleet" / "settings.py").read_text()))
    rows = set(re.findall(r"^\| `(\w+)` \|", (CHECKOUT / "docs" / "settings.md").read_text(), re.MULTILINE))
    assert variables <= rows, variables - rows


def test_every_setting_is_documented_once_with_its_default() -> None:
    page = (CHECKOUT / "docs" / "settings.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (?:integer|number|boolean|words|text) \| `?(.*?)`? \|", page, re.MULTILINE)
    document = dict(rows)
    assert len(document) == len(rows)
    variables = {
        call.args[0].value: _as_written(ast.literal_eval(call.args[1]) if len(call.args) > 1 else "")
        for call in ast.walk(ast.parse((CHECKOUT / "fleet" / "settings.py").read_text()))
        if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant)
        and call.args[0].value in document
    }  # fmt: skip
    assert {name: document[name] for name in variables} == variables


def _as_written(default: object) -> str:
    """The value as a user would write it in the environment."""
    if isinstance(default, bool):
        return "yes" if default else "no"
    return (",".join(default) if isinstance(default, tuple) else str(default)) or "–"
