"""Reads SQL statements by name: one statement per file, in the `sql` folder of the package that owns the rows."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources


@cache
def read(package: str, name: str) -> str:
    """Return the text of `<package>/sql/<name>.sql`, with psycopg's parameters `%(name)s`."""
    return resources.files(package).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


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
