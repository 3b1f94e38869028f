"""Two roles of the database: the application's, which every process uses, and the owner's, which migrates.

The owner's role owns the database and its tables. The application's role may read and write rows and nothing else: it makes
no database, no table and no role, and cannot become the owner. In the embedded Postgres nobody can sign in as the owner:
its sessions are the administrator's, who takes on that role. An external Postgres names its owner by DATABASE_OWNER_URL.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg
from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

from fleet.config.datastores import ADMINISTRATOR, Postgres
from fleet.postgres import statements

Wrapper = TypeVar("Wrapper", bound=BaseDatabaseWrapper)


def owned(connection: Wrapper) -> Wrapper:
    """Another connection to the same database, as its owner; the same one where the application is the owner."""
    owner: Postgres | None = settings.FLEET_ENDPOINTS.owner
    if owner is None:
        return connection
    given = connection.settings_dict
    options = {name: value for name, value in given["OPTIONS"].items() if name != "pool"}
    return type(connection)(
        {
            **given,
            "HOST": owner.host,
            "PORT": owner.port,
            "USER": owner.user,
            "PASSWORD": owner.password,
            "OPTIONS": {**options, **owner.options},
        },
        alias=connection.alias,
    )


@contextmanager
def as_owner() -> Iterator[None]:
    """Within this block the default connection of this thread is the owner's."""
    application = connections["default"]
    owners = owned(application)
    connections["default"] = owners
    try:
        yield
    finally:
        connections["default"] = application
        if owners is not application:
            owners.close()


def convert() -> None:
    """Give the embedded database the roles that it should have. One transaction; doing it again changes nothing."""
    where = settings.FLEET_ENDPOINTS
    if where.provider != "embedded":
        return
    with psycopg.connect(
        host=where.postgres.host,
        port=where.postgres.port,
        user=ADMINISTRATOR,
        password=settings.FLEET_CREDENTIALS.postgres_admin_password,
        dbname=connections["default"].settings_dict["NAME"],
        connect_timeout=5,
        application_name="fleet prepare",
        require_auth="scram-sha-256",
    ) as session:
        session.execute(_statement("database_roles"))
        session.execute(_statement("database_grants"))


def grant() -> None:
    """Let the application use every table. For the owner, after the migrations."""
    if settings.FLEET_ENDPOINTS.owner is None:
        return
    with connections["default"].cursor() as cursor:
        cursor.execute(_statement("database_grants"))


def _statement(name: str) -> sql.Composed:
    return sql.SQL(statements.read("fleet", name)).format(role=sql.Identifier(settings.FLEET_ENDPOINTS.postgres.user))
