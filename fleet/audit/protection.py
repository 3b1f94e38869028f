"""The trail belongs to a role that nobody can sign in as, so that not even who has the fleet's own password can rewrite it.

Only a superuser can hand it over. The embedded Postgres has one, as whom `migrate` signs in; for a Postgres of somebody
else's, its administrator runs the same SQL (`manage.py fleet_audit protect`).
"""

from __future__ import annotations

from django.conf import settings
from django.db import connection, transaction
from psycopg import sql

from fleet import invocation
from fleet.audit import recording
from fleet.audit.models import Entry
from fleet.postgres import statements

PROTECTED = "audit.protected"  # the entry that says that it was


def statement() -> sql.Composed:
    """The SQL that hands the trail over and lets the application add to it and read it."""
    where = settings.FLEET_ENDPOINTS
    parts = [_formatted("audit_protect"), _formatted("audit_grants")]
    if where.provider == "external" and where.owner is not None:  # which has to migrate these tables too
        parts.append(sql.SQL("GRANT fleet_audit TO {};").format(sql.Identifier(where.owner.user)))
    return sql.Composed(parts)


def protect() -> None:
    """For the owner, after the migrations: hand the trail over where its session is a superuser's; else set the rights.

    Doing it again changes nothing. An application that owns the database itself cannot be kept from anything.
    """
    if settings.FLEET_ENDPOINTS.owner is None:
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statements.read("fleet", "audit_powers"))
        there, is_superuser, is_owner = cursor.fetchone()
        if there and is_superuser:
            cursor.execute("SET LOCAL ROLE NONE")
            cursor.execute(statement())
        elif there and is_owner:
            cursor.execute(_formatted("audit_grants"))


def _formatted(name: str) -> sql.Composed:
    role = sql.Identifier(settings.FLEET_ENDPOINTS.postgres.user)
    return sql.SQL(statements.read("fleet", name)).format(role=role)


def gaps() -> list[str]:
    """What the application could do to the trail besides adding to it; empty where it is protected."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("fleet", "audit_protection"))
        return [str(gap) for (gap,) in cursor.fetchall()]


def note() -> None:
    """Write down, once, that the trail is protected: from then on a gap is an alarm."""
    if not _was_protected() and not gaps():
        recording.record(kind=PROTECTED)


def expected() -> bool:
    """Whether a gap is an alarm: the Postgres is the fleet's own, has an owner of its own, or has been protected before."""
    where = settings.FLEET_ENDPOINTS
    return where.provider == "embedded" or where.owner is not None or _was_protected()


def _was_protected() -> bool:
    return Entry.objects.filter(kind=PROTECTED).exists()


def remedy() -> str:
    if settings.FLEET_ENDPOINTS.provider == "embedded":
        restart = f"{invocation.command('fleet_down')} && {invocation.command('fleet_up', '--detach')}"
        return f"Restart the fleet, which protects it: {restart}"
    protect = invocation.command("fleet_audit", "protect")
    return (
        "Give the application a role that owns nothing (DATABASE_OWNER_URL), and let a superuser run the SQL that this "
        f"command prints (docs/audit-trail.md): {protect}"
    )
