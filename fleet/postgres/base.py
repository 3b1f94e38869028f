"""Django's database backend, which connects with `fleet.postgres.connect` and creates test databases as the owner."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import psycopg
from django.db.backends.postgresql import base

from fleet.postgres import roles
from fleet.postgres.connections import connect


class DatabaseWrapper(base.DatabaseWrapper):
    # Django's name for the driver's module (PEP 249).
    Database: Any = SimpleNamespace(**{**vars(psycopg), "connect": connect})

    def chunked_cursor(self) -> Any:
        """A server-side cursor, which fetches rows in chunks; through a pooler an ordinary one.

        Django's querysets already honour that setting.
        """
        if self.settings_dict["DISABLE_SERVER_SIDE_CURSORS"]:
            return self.cursor()
        return super().chunked_cursor()

    def _nodb_cursor(self) -> Any:
        return super(DatabaseWrapper, roles.owner_connection(self))._nodb_cursor()
