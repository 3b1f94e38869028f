"""docs/checkpoints.md says for every column of `missions` whether a checkpoint contains it."""

from __future__ import annotations

import re

import pytest
from django.apps import apps

from checkpoints.document import FORMAT, manifest
from checkpoints.recovery.risks import Level
from tests.support.paths import CHECKOUT

PAGE = (CHECKOUT / "docs" / "checkpoints.md").read_text()
LISTED = re.findall(r"`(\w+\.(?:\w+|\*))`", PAGE.partition("## What is captured")[2])
COLUMNS = [
    f"{model.__name__}.{field.name}"
    for model in apps.get_app_config("missions").get_models()
    for field in model._meta.concrete_fields
]


@pytest.mark.parametrize("column", COLUMNS)
def test_the_column_is_listed_once(column: str) -> None:
    rows = LISTED.count(column) + LISTED.count(f"{column.partition('.')[0]}.*")
    assert rows == 1


def test_only_existing_columns_are_listed() -> None:
    models = {f"{column.partition('.')[0]}.*" for column in COLUMNS}
    assert set(LISTED) <= {*COLUMNS, *models}


def test_the_format_is_the_one_that_is_written() -> None:
    assert f"(format {FORMAT}; schema: `checkpoints/document/manifest.schema.json`)" in PAGE
    assert manifest._validator() is not None


def test_risks_have_a_row_with_their_level() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (low|medium|high|blocking) \|", PAGE, re.MULTILINE))
    source = (CHECKOUT / "checkpoints" / "recovery" / "risks.py").read_text()
    levels = dict(re.findall(r'kind="(\w+)",\s+level=Level\.(\w+),', source))
    assert rows == {kind: Level[level].value for kind, level in levels.items()}
