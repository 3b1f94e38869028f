"""Reads SQL statements by name: one statement per file, in the `sql` folder of the package that owns the rows.

Conditions that several statements need have files of their own: `@missions.sortie_has_ended(s)` stands for the text of
`missions/sql/conditions/sortie_has_ended.sql`, with `s` in place of `row`. Postgres gets the text written out, so the
planner can match it with partial indexes.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_CONDITION = re.compile(r"@(\w+)\.(\w+)\((\w+)\)")


@cache
def read(package: str, name: str) -> str:
    """Return the text of `<package>/sql/<name>.sql`, with psycopg's parameters `%(name)s`."""
    return expand(_text(package, name))


@cache
def read_raw(package: str, name: str) -> tuple[str, tuple[str, ...]]:
    """Return a statement for psycopg's RawCursor, and the names of its parameters `$1`, `$2`, … in that order.

    psycopg parses a text from `read` at each execution, which is noticeable for a long statement that runs a thousand
    times per second.
    """
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    text = re.sub(r"%\((\w+)\)s", number, read(package, name))
    return text, tuple(names)


def expand(text: str) -> str:
    """Write out the conditions in a statement."""
    return _CONDITION.sub(lambda match: _condition(match[1], match[2], row=match[3]), text)


def _condition(package: str, name: str, *, row: str) -> str:
    condition = re.sub(r"--.*\n", "", _text(package, f"conditions/{name}")).strip()
    return "(" + re.sub(r"\brow\.", f"{row}.", condition) + ")"


def _text(package: str, name: str) -> str:
    return resources.files(package).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
