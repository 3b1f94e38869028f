"""The pages that repeat what the code says are held to it."""

from __future__ import annotations

import re
from pathlib import Path

from missions.states import MISSION_ARROWS, SORTIE_ARROWS, MissionState, SortieState

ROOT = Path(__file__).resolve().parents[2]


def test_every_arrow_stands_on_the_page_of_states_with_its_letter() -> None:
    page = (ROOT / "docs" / "states.md").read_text()
    for arrow in (*SORTIE_ARROWS, *MISSION_ARROWS):
        row = f"| {arrow.letter} | {', '.join(sorted(arrow.sources)) or '–'} | {arrow.target} | {arrow.by} | {arrow.why} |"
        assert row in page
        for source in sorted(arrow.sources) or ["[*]"]:
            assert f"    {source} --> {arrow.target}: {arrow.letter}\n" in page
    assert len(re.findall(r" --> ", page)) == sum(len(a.sources) or 1 for a in (*SORTIE_ARROWS, *MISSION_ARROWS))
    for state in (*SortieState, *MissionState):
        assert f"| {state} | " in page


def test_every_variable_that_the_settings_read_has_its_row() -> None:
    read = set(re.findall(r'env\.\w+\("(\w+)"', (ROOT / "fleet" / "settings.py").read_text()))
    rows = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE))
    assert read <= rows, read - rows


def test_every_relative_link_of_the_pages_leads_somewhere() -> None:
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
