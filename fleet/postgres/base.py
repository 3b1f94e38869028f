"""The backend. All but how it connects is Django's own, and who makes a test run's databases: the owner."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import psycopg
from django.db.backends.postgresql import base

from fleet.postgres import roles
from fleet.postgres.connections import connect


class DatabaseWrapper(base.DatabaseWrapper):
    # What Django calls the driver's module (PEP 249).
    Database: Any = SimpleNamespace(**{**vars(psycopg), "connect": connect})

    def _nodb_cursor(self) -> Any:
        return super(DatabaseWrapper, roles.owned(self))._nodb_cursor()
