"""The pages form a site: each has a place in the navigation, and no link is broken."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from scripts import diagrams, docs
from tests.support.paths import CHECKOUT

PAGES = docs.pages(CHECKOUT)


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    text = docs.FENCE.sub("", (CHECKOUT / page).read_text())
    counts: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        heading = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        found.add(f"{slug}-{counts[slug]}" if counts[slug] else slug)
        counts[slug] += 1
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_to_a_file_and_to_a_heading(page: str) -> None:
    text = docs.FENCE.sub("", (CHECKOUT / page).read_text())
    for _, target in docs.LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        target_file = (CHECKOUT / page).parent / path if path else CHECKOUT / page
        assert target_file.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(target_file.resolve().relative_to(CHECKOUT).as_posix()), f"{page}: {target}"


def test_every_page_has_one_place_in_the_navigation() -> None:
    listed_pages = [page for pages in docs.navigation(CHECKOUT).values() for page in pages]
    assert sorted(listed_pages) == PAGES, "see docs/site.toml"


def test_the_navigation_lists_only_pages_that_exist() -> None:
    sections = tomllib.loads((CHECKOUT / "docs" / "site.toml").read_text())["nav"]
    assert [page for section in sections for page in section["pages"] if not (CHECKOUT / page).exists()] == []


def test_every_page_has_a_place_of_its_own_in_the_site() -> None:
    places = [docs.site_path(page).casefold() for page in PAGES]
    assert len(set(places)) == len(places)


def test_every_page_begins_with_its_only_title() -> None:
    for page in PAGES:
        text = docs.FENCE.sub("", (CHECKOUT / page).read_text())
        assert text.startswith("# "), page
        assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1, page


def test_links_lead_to_the_copies_and_names_of_files_become_titles() -> None:
    site_paths = {
        page: docs.site_path(page) for page in ("README.md", "ARCHITECTURE.md", "docs/plan.md", "docs/bench.md")
    }
    text = "[plan](docs/plan.md#inputs) [docs/plan.md](docs/plan.md) [code](Makefile) [web](https://example.org/a.md)"
    converted = docs.convert("README.md", text, site_paths=site_paths)
    assert converted == "[plan](plan.md#inputs) [The plan format](plan.md) code [web](https://example.org/a.md)"
    assert docs.convert("docs/bench.md", "[a](../ARCHITECTURE.md)", site_paths=site_paths) == "[a](architecture.md)"


def test_a_link_to_a_missing_file_is_refused() -> None:
    with pytest.raises(ValueError, match=r"README.md: docs/nothing.md does not exist"):
        docs.convert("README.md", "[a](docs/nothing.md)", site_paths={"README.md": "index.md"})


def test_links_in_code_stay_as_they_are() -> None:
    text = "```sh\necho '[a](docs/nothing.md)'\n```\n"
    assert docs.convert("README.md", text, site_paths={"README.md": "index.md"}) == text


def test_pipes_in_the_code_of_a_table_are_written_without_a_backslash() -> None:
    row = r"| `up\|down` | a \| b |"
    converted = docs.convert("README.md", row, site_paths={"README.md": "index.md"})
    assert converted.replace("\u200b", "") == r"| `up|down` | a \| b |"


def test_external_requests_of_a_page_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<a href="https://example.org"></a><script src="https://cdn.example.org/x.js"></script>'
    )
    (tmp_path / "b.css").write_text("@import url(//fonts.example.org/a); a { background: url(data:image/png;base64,) }")
    found = list(docs.external_requests(tmp_path))
    assert len(found) == 2
    assert found[0].startswith("a.html: <script")
    assert found[1] == "b.css: //fonts.example.org/a"


def test_a_diagram_is_drawn_with_all_its_arrows() -> None:
    (block,) = diagrams.BLOCK.findall("```mermaid\nstateDiagram-v2\n    [*] --> idle: a\n    idle --> busy: b\n```\n")
    source = diagrams.dot_source(block)
    assert 'start0 -> idle [label=" a "]' in source
    assert 'idle -> busy [label=" b "]' in source
    assert diagrams.picture_path(block) != diagrams.picture_path(block + " ")


@pytest.mark.skipif(importlib.util.find_spec("zensical") is None, reason="make docs installs Zensical")
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    site = tmp_path / "docs"
    assert docs.build(site) == 0
    assert {"index.html", "search.js", "offline.js"} <= {path.name for path in site.iterdir()}
    assert '<script src="offline.js"' in (site / "index.html").read_text()
