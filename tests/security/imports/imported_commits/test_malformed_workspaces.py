"""A workspace whose description in the file is malformed is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fleet import errors
from tests.security.imports.imported_commits.hostile_commits import assert_refused
from tests.security.imports.tampered_exports import stored_state
from tests.support.repository import Repository
from tests.support.work import archives
from tests.support.work.archives import OpenedExport

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


@pytest.mark.parametrize(
    "values",
    [
        {"tip": "main"},
        {"tip": "0" * 39 + "\n"},
        {"base_commit": "0" * 64},
        {"base_commit": ""},
        {"conflicts": "x"},
        {"reworks": 1_000},
        {"verify": {"a": 1}},
        {"base": "a\nb"},
        {"extra": 1},
    ],
    ids=str,
)
def test_a_malformed_workspace_is_refused(project: Repository, exported: bytes, values: dict[str, Any]) -> None:
    opened = OpenedExport.of(exported)
    opened.change_mission(lambda data: data["workspace"].update(values))
    assert_refused(opened.reseal(), project, "cannot be imported")


@pytest.mark.parametrize(
    "change",
    [
        lambda part: part["changes"][0].update(state="kept"),
        lambda part: part["changes"][0].update(commit="main"),
        lambda part: part["changes"][0].update(state="committed", base=""),
        lambda part: part["changes"][0].update(result="{"),
        lambda part: part["changes"][0].update(files=["x" * 5_000]),
        lambda part: part["changes"].append(part["changes"][0]),
        lambda part: part.update(reservations=[{"shared": False, "pattern": "../x", "released": False}]),
        lambda part: part.update(extra=1),
    ],
)
def test_malformed_changes_are_refused(project: Repository, exported: bytes, change: Callable[[Any], object]) -> None:
    opened = OpenedExport.of(exported)
    opened.change("edit", lambda data: change(data["workspace"]))
    assert_refused(opened.reseal(), project, "cannot be imported")


def test_changes_need_a_workspace(project: Repository, exported: bytes) -> None:
    opened = OpenedExport.of(exported)
    opened.change_mission(lambda data: data.pop("workspace"))
    opened.commits = b""
    before = stored_state()
    with pytest.raises(errors.Invalid, match="the mission has no workspace"):
        archives.import_bytes(opened.reseal())
    assert stored_state() == before
