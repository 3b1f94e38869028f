"""The trail belongs to a role that nobody can sign in as, so that not even who has the fleet's own password can rewrite it.

Only a superuser can hand it over. The embedded Postgres has one, whose password the fleet keeps and uses for nothing else;
for a Postgres of somebody else's, its administrator runs the same SQL (`manage.py fleet_audit protect`).
"""

from __future__ import annotations

import psycopg
from django.conf import settings
from django.db import connection
from psycopg import sql

from fleet import invocation, statements
from fleet.audit.guarding import NAME

ADMINISTRATOR = "postgres"  # the embedded cluster's superuser


def statement() -> sql.Composed:
    """The SQL that hands the trail over, for the role that the fleet signs in with."""
    text = sql.SQL(statements.read("fleet", "audit_protect"))
    return text.format(role=sql.Identifier(settings.FLEET_ENDPOINTS.postgres.user))


def protect() -> bool:
    """Hand it over where the Postgres is the fleet's own; False where it is somebody else's. Again is harmless."""
    where = settings.FLEET_ENDPOINTS
    if where.provider != "embedded":
        return False
    with psycopg.connect(
        host=where.postgres.host,
        port=where.postgres.port,
        user=ADMINISTRATOR,
        password=settings.FLEET_CREDENTIALS.postgres_admin_password,
        dbname=where.postgres.name,
        connect_timeout=5,
        application_name=f"{NAME} prepare",
    ) as session:
        session.execute(statement())
    return True


def gaps() -> list[str]:
    """What the fleet's own role could do to the trail besides adding to it; empty where it is protected."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("fleet", "audit_protection"))
        return [str(gap) for (gap,) in cursor.fetchall()]


def remedy() -> str:
    if settings.FLEET_ENDPOINTS.provider == "embedded":
        restart = f"{invocation.command('fleet_down')} && {invocation.command('fleet_up', '--detach')}"
        return f"Restart the fleet, which protects it: {restart}"
    protect = invocation.command("fleet_audit", "protect")
    return f"Let a superuser run the SQL that this command prints (docs/audit-trail.md): {protect}"
