"""Further databases for a test worker. The first use migrates a template; each database is a copy of it.

A copy costs a tenth of a migration.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from django.db import connection
from psycopg import sql


@contextmanager
def fresh(blocker: Any) -> Iterator[None]:
    """Within this block, the default connection uses a new, migrated database. `blocker`: pytest-django's."""
    with blocker.unblock():
        own = connection.settings_dict["NAME"]
        try:
            connection.settings_dict["NAME"] = _copy(_migrated(), to=f"fresh_{os.getpid()}")
            yield
        finally:
            connection.close()
            connection.settings_dict["NAME"] = own


@cache
def _migrated() -> str:
    """The name of the migrated template database."""
    own, tests = connection.settings_dict["NAME"], connection.settings_dict["TEST"]["NAME"]
    connection.close()
    connection.settings_dict["TEST"]["NAME"] = f"migrated_{os.getpid()}"
    try:
        return connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    finally:
        connection.close()
        connection.settings_dict["NAME"], connection.settings_dict["TEST"]["NAME"] = own, tests


def _copy(name: str, *, to: str) -> str:
    with connection._nodb_cursor() as cursor:
        cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(to)))
        cursor.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(to), sql.Identifier(name)))
    return to
