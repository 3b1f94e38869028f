"""Two patterns overlap exactly if a path exists that both include."""

from __future__ import annotations

import fnmatch
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from missions.plan import globs

NAMES = ["a", "b", "aa", "ab", "ba", "bb"]
SHALLOW = ["/".join(names) for depth in (1, 2, 3) for names in itertools.product(NAMES, repeat=depth)]
DEEP = ["/".join(names) for depth in range(1, 7) for names in itertools.product("ab", repeat=depth)]


def matches(pattern: list[str], path: list[str]) -> bool:
    """Whether the pattern includes the path: a naive implementation of the rule."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(matches(pattern[1:], path[skipped:]) for skipped in range(len(path) + 1))
    return bool(path) and fnmatch.fnmatchcase(path[0], pattern[0]) and matches(pattern[1:], path[1:])


def share_a_path(first: str, second: str, paths: list[str]) -> bool:
    patterns = first.split("/"), second.split("/")
    return any(all(matches(pattern, path.split("/")) for pattern in patterns) for path in paths)


parts = st.sampled_from(["a", "b", "ab", "*", "a*", "*b", "?", "?b", "[ab]", "[!a]", "[!a]*", "**", "aa", "[a-b]a"])
patterns = st.lists(parts, min_size=1, max_size=2).map("/".join)
long_patterns = st.lists(st.sampled_from(["a", "b", "*", "**"]), min_size=1, max_size=4).map("/".join)


@given(first=patterns, second=patterns)
@settings(max_examples=400, deadline=None)
def test_patterns_overlap_exactly_if_a_path_fits_both(first: str, second: str) -> None:
    assert globs.overlap(globs.parse(first), globs.parse(second)) == share_a_path(first, second, SHALLOW)


@given(first=long_patterns, second=long_patterns)
@settings(max_examples=400, deadline=None)
def test_deep_patterns_overlap_exactly_if_a_path_fits_both(first: str, second: str) -> None:
    assert globs.overlap(globs.parse(first), globs.parse(second)) == share_a_path(first, second, DEEP)


@given(pattern=patterns | long_patterns, path=st.sampled_from(SHALLOW + DEEP))
@settings(max_examples=300, deadline=None)
def test_a_pattern_includes_a_path_exactly_if_it_fits(pattern: str, path: str) -> None:
    assert globs.includes(globs.parse(pattern), path) == matches(pattern.split("/"), path.split("/"))


@pytest.mark.parametrize(
    ("first", "second", "overlapping"),
    [
        ("src/**", "src/api/*.py", True),
        ("src/api/", "src/api/cart.py", True),
        ("src/api/", "src/apis/cart.py", False),
        ("*.py", "src/cart.py", False),
        ("src/api/*.py", "src/**", True),
        ("src/*.py", "src/*.js", False),
        ("src/a*c.py", "src/*bc.py", True),
        ("src", "src/api/views.py", True),
        ("src/api", "src/apis", False),
        ("**/test_*.py", "src/*/tests/**", True),
        ("docs/[0-9]*.md", "docs/[a-z]*.md", False),
        ("docs/[!0-9]*.md", "docs/[a-z]*.md", True),
        ("docs/[!a-z]*.md", "docs/[b-y]*.md", False),
        ("docs/[]x].md", "docs/].md", True),
        ("docs/[x.md", "docs/[x.md", True),
        ("docs/[x.md", "docs/x.md", False),
        ("**", "anything/at/all", True),
        ("größe/*.py", "größe/ä.py", True),
    ],
)
def test_known_pairs_overlap_or_not(first: str, second: str, overlapping: bool) -> None:
    assert globs.overlap(globs.parse(first), globs.parse(second)) is overlapping


def test_special_characters_in_a_file_name_are_literal() -> None:
    assert not globs.overlap(globs.of_file("docs/*.md"), globs.parse("docs/a.md"))
    assert globs.overlap(globs.of_file("docs/*.md"), globs.parse("docs/?.md"))


def test_hostile_patterns_are_compared_quickly() -> None:
    """A comparison with backtracking would never end."""
    first = globs.parse("*a" * 120 + "x")
    second = globs.parse("a" * 240 + "y")
    assert not globs.overlap(first, second)
    assert not globs.includes(globs.parse("**/a/" * 60 + "x"), "a/" * 120 + "y")
