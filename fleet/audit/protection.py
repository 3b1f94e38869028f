"""Transfers the trail to a role that cannot log in, so that not even the application's own role can rewrite it.

Only a superuser can transfer the ownership. In the embedded Postgres `migrate` does that; for an external Postgres an
administrator runs the same SQL (`manage.py fleet_audit protect`).
"""

from __future__ import annotations

from django.conf import settings
from django.db import connection, transaction
from psycopg import sql

from fleet.audit import recording
from fleet.audit.models import Entry
from fleet.console import invocation
from fleet.postgres import statements

PROTECTED = "audit.protected"  # the kind of the entry that records the protection


def statement() -> sql.Composed:
    """Return the SQL that transfers the trail and lets the application add entries and read them."""
    endpoints = settings.FLEET_ENDPOINTS
    parts = [_formatted("audit_protect"), _formatted("audit_grants")]
    if endpoints.provider == "external" and endpoints.owner is not None:  # it must be able to migrate these tables
        parts.append(sql.SQL("GRANT fleet_audit TO {};").format(sql.Identifier(endpoints.owner.user)))
    return sql.Composed(parts)


def permit_migrations() -> None:
    """Let migrations create triggers that call the trail's functions (see `guarding`).

    Call it as the database's owner, before the migrations. Idempotent. Does nothing unless this session is a
    superuser's, because no other may.
    """
    if settings.FLEET_ENDPOINTS.owner is None:
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statements.read("fleet", "audit_privileges"))
        exists, is_superuser, _ = cursor.fetchone()
        if exists and is_superuser:
            cursor.execute("SET LOCAL ROLE NONE")
            cursor.execute("GRANT USAGE ON SCHEMA fleet_audit TO pg_database_owner")


def protect() -> None:
    """Transfer the trail if this session is a superuser's; grant the privileges if it may become the trail's owner.

    Call it as the database's owner, after the migrations. Idempotent. Does nothing if the application owns the
    database, because then it cannot be restricted.
    """
    if settings.FLEET_ENDPOINTS.owner is None:
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statements.read("fleet", "audit_privileges"))
        exists, is_superuser, is_owner = cursor.fetchone()
        if exists and is_superuser:
            cursor.execute("SET LOCAL ROLE NONE")
            cursor.execute(statement())
        elif exists and is_owner:
            cursor.execute(_formatted("audit_grants"))


def _formatted(name: str) -> sql.Composed:
    role = sql.Identifier(settings.FLEET_ENDPOINTS.postgres.user)
    return sql.SQL(statements.read("fleet", name)).format(role=role)


def gaps() -> list[str]:
    """Return the reasons why the application could change the trail, as clauses; empty if the trail is protected."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("fleet", "audit_protection"))
        return [str(gap) for (gap,) in cursor.fetchall()]


def record_protection() -> None:
    """Record, once, that the trail is protected. From then on every gap is an alarm."""
    if not _was_protected() and not gaps():
        recording.record(kind=PROTECTED)


def is_required() -> bool:
    """Whether the trail must be protected, so that a gap is an alarm.

    It must be if the Postgres is the fleet's own, has a separate owner, or was protected before.
    """
    endpoints = settings.FLEET_ENDPOINTS
    return endpoints.provider != "external" or endpoints.owner is not None or _was_protected()


def _was_protected() -> bool:
    return Entry.objects.filter(kind=PROTECTED).exists()


def remedy() -> str:
    """Return what an operator must do to protect the trail."""
    if settings.FLEET_ENDPOINTS.provider != "external":
        restart = f"{invocation.command('fleet_down')} && {invocation.command('fleet_up', '--detach')}"
        return f"Restart the fleet to protect it: {restart}"
    protect = invocation.command("fleet_audit", "protect")
    return (
        "Give the application a role that owns nothing (set DATABASE_OWNER_URL), and have a superuser run the SQL that "
        f"this command prints (docs/audit-trail.md): {protect}"
    )
