"""Tampers with the audit trail as a superuser could, and undoes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction

from fleet.postgres import roles


class _Undo(Exception):
    """Rolls the tampering back."""


@contextmanager
def as_superuser() -> Iterator[None]:
    """Within this block, the default connection has the superuser's role."""
    with roles.as_owner():
        run("SET ROLE NONE")
        yield


@contextmanager
def tampering() -> Iterator[None]:
    """Within this block, the tables of the trail accept every change. All changes are rolled back afterwards."""
    try:
        with as_superuser(), transaction.atomic():
            run("ALTER TABLE fleet_audit.entry DISABLE TRIGGER refuse")
            run("ALTER TABLE fleet_audit.seal DISABLE TRIGGER refuse, DISABLE TRIGGER accept")
            run("ALTER TABLE fleet_audit.entry DROP CONSTRAINT entry_pkey; DROP INDEX fleet_audit.entry_in_order")
            run("ALTER TABLE fleet_audit.seal DROP CONSTRAINT seal_pkey, DROP CONSTRAINT seal_digest_key")
            run("ALTER TABLE fleet_audit.seal DROP CONSTRAINT seal_previous_key, DROP CONSTRAINT seal_check")
            yield
            raise _Undo
    except _Undo:
        pass


def run(statement: str, *values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)


@contextmanager
def tampered(entry: int) -> Iterator[None]:
    """Within this block, an entry by `system` has another actor, committed. It is restored afterwards."""
    _set_actor(entry, "user:eve")
    try:
        yield
    finally:
        _set_actor(entry, "system")


def _set_actor(entry: int, actor: str) -> None:
    with as_superuser(), transaction.atomic():
        run("ALTER TABLE fleet_audit.entry DISABLE TRIGGER refuse")
        run("UPDATE fleet_audit.entry SET actor = %s WHERE id = %s", actor, entry)
        run("ALTER TABLE fleet_audit.entry ENABLE ALWAYS TRIGGER refuse")
