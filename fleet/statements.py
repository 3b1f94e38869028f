"""SQL by name: one statement, one file, in the `sql` folder of the package that owns the rows."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def read(package: str, name: str) -> str:
    """The text of `<package>/sql/<name>.sql`, as psycopg takes it (parameters are `%(name)s`)."""
    return resources.files(package).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
