"""SQL by name: one statement, one file, in the `sql` folder of the package that owns the rows."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources


@cache
def read(package: str, name: str) -> str:
    """The text of `<package>/sql/<name>.sql`, as psycopg takes it (parameters are `%(name)s`)."""
    return resources.files(package).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


@cache
def read_raw(package: str, name: str) -> tuple[str, tuple[str, ...]]:
    """The same for psycopg's RawCursor: `$1` and so on, and the names in their order. It spares the reading of the
    text at each execution, which counts where a long statement runs a thousand times a second."""
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    text = re.sub(r"%\((\w+)\)s", number, read(package, name))
    return text, tuple(names)
