"""The two roles of the database: the application's, which every process uses, and the owner's, which migrates.

The owner owns the database and its tables. The application may only read and write rows: it cannot create databases,
tables or roles, and cannot become the owner. In the embedded Postgres the owner cannot log in: the administrator logs
in and assumes that role. For an external Postgres, DATABASE_OWNER_URL gives the owner.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import psycopg
from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

from fleet import errors
from fleet.config.datastores import ADMINISTRATOR, Postgres
from fleet.postgres import parameters, statements

Wrapper = TypeVar("Wrapper", bound=BaseDatabaseWrapper)


def owner_connection(connection: Wrapper) -> Wrapper:
    """Return a connection to the same database as its owner, bypassing any pooler.

    It is the same connection if the application is the owner and there is no pooler.
    """
    owner: Postgres | None = settings.FLEET_ENDPOINTS.owner or settings.FLEET_ENDPOINTS.direct
    if owner is None:
        return connection
    database = connection.settings_dict
    name = owner.name if settings.FLEET_ENDPOINTS.direct else database["NAME"]  # a pooler may have names of its own
    overrides = parameters.for_django(
        replace(owner, name=name, options={**settings.FLEET_ENDPOINTS.postgres.options, **owner.options}),
        connect_timeout_s=settings.FLEET_POSTGRES_TIMEOUT_S,
        application_name=database["OPTIONS"]["application_name"],
        pool={},
    )
    return type(connection)({**database, **overrides}, alias=connection.alias)


@contextmanager
def as_owner() -> Iterator[None]:
    """Make the owner's connection the default one of this thread within the block."""
    original = connections["default"]
    owner = owner_connection(original)
    connections["default"] = owner
    try:
        yield
    finally:
        connections["default"] = original
        if owner is not original:
            owner.close()


def ensure_roles() -> None:
    """Create the roles of the fleet's own database and set its ownership, in one transaction. Idempotent."""
    endpoints = settings.FLEET_ENDPOINTS
    if endpoints.provider == "external":
        return
    administrator = replace(
        endpoints.postgres,
        user=ADMINISTRATOR,
        password=settings.FLEET_CREDENTIALS.postgres_admin_password,
        name=connections["default"].settings_dict["NAME"],
    )
    with psycopg.connect(
        **parameters.for_libpq(
            administrator, connect_timeout_s=settings.FLEET_POSTGRES_TIMEOUT_S, application_name="fleet prepare"
        )
    ) as session:
        session.execute(_statement("database_roles"))
        session.execute(_statement("database_grants"))


def ensure_application_role() -> None:
    """Create the application's role, or set its password, and revoke the owner's privileges from it. Idempotent.

    Runs as the login user of DATABASE_OWNER_URL, even if that URL sets another role. If that user is a superuser, the
    role `fleet_owner` gets everything that the application still owns. Raises Invalid without DATABASE_OWNER_URL.
    """
    endpoints = settings.FLEET_ENDPOINTS
    if endpoints.owner is None:
        raise errors.Invalid(
            "The application's role can be created only by another role.",
            hint="Set DATABASE_OWNER_URL to the role that owns the database.",
        )
    application: Postgres = endpoints.postgres
    with psycopg.connect(
        **parameters.for_libpq(
            endpoints.owner, connect_timeout_s=settings.FLEET_POSTGRES_TIMEOUT_S, application_name="fleet prepare"
        )
    ) as session:
        session.execute("SET LOCAL ROLE NONE")
        verifier = session.pgconn.encrypt_password(
            application.password.encode(), application.user.encode(), b"scram-sha-256"
        ).decode()
        session.execute(
            sql.SQL(statements.read("fleet", "application_role")).format(
                name=application.user, role=sql.Identifier(application.user), verifier=verifier
            )
        )
        ((is_superuser,),) = session.execute("SELECT rolsuper FROM pg_roles WHERE rolname = session_user").fetchall()
        if is_superuser:
            session.execute(_statement("database_roles"))


def grant() -> None:
    """Let the application use every table. Call it as the owner, after the migrations."""
    if settings.FLEET_ENDPOINTS.owner is None:
        return
    with connections["default"].cursor() as cursor:
        cursor.execute(_statement("database_grants"))


def _statement(name: str) -> sql.Composed:
    return sql.SQL(statements.read("fleet", name)).format(role=sql.Identifier(settings.FLEET_ENDPOINTS.postgres.user))
