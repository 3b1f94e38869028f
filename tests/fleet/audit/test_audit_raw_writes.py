"""Writes to the main tables by sessions other than the fleet's are recorded in the audit trail."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import connection

from fleet.audit.models import Entry
from fleet.postgres import hot_path, roles

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

GUARDED = ("missions_mission", "missions_sortie", "missions_schedule", "agents_agenttype", "auth_user", "fleet_account",
           "fleet_key")  # fmt: skip


@pytest.fixture
def person() -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A session of someone who uses the fleet's password with another program."""
    value = connection.get_connection_params()
    address = {name: value[name] for name in ("host", "port", "user", "password", "dbname")}
    with psycopg.connect(**address, autocommit=True, application_name="psql") as session:
        yield session


def raw_writes() -> list[tuple[str, str, object]]:
    """The recorded raw writes in order: kind, table and rows. The flush between tests is not one of them."""
    found = Entry.objects.filter(kind__startswith="database.", at__gte=_began()).order_by("id")
    return [(entry.kind, entry.subject, entry.data["rows"]) for entry in found]


def _began() -> object:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT backend_start FROM pg_stat_activity WHERE application_name = 'psql' AND datname = current_database()"
        )
        return cursor.fetchone()[0]


def test_each_raw_write_is_recorded(person: psycopg.Connection[tuple[object, ...]]) -> None:
    for name in ("ann", "bob", "cyd"):
        User.objects.create_user(name)
    person.execute("UPDATE auth_user SET is_superuser = true WHERE username <> 'cyd'")
    person.execute("UPDATE agents_agenttype SET description = description")
    person.execute("DELETE FROM auth_user WHERE username = 'nobody'")  # deletes no row
    with person.transaction():
        person.execute("UPDATE auth_user SET first_name = 'x' WHERE username = 'ann'")
        person.execute("UPDATE auth_user SET first_name = 'y'")
        person.execute("DELETE FROM auth_user WHERE username = 'cyd'")
    types = person.execute("SELECT count(*) FROM agents_agenttype").fetchone()
    assert types is not None
    assert raw_writes() == [
        ("database.update", "auth_user", 2),
        ("database.update", "agents_agenttype", types[0]),
        ("database.update", "auth_user", 1),
        ("database.update", "auth_user", 3),
        ("database.delete", "auth_user", 1),
    ]
    entry = Entry.objects.order_by("-id")[0]
    assert entry.actor == f"database:{person.info.user}"
    assert entry.address == "127.0.0.1"
    assert entry.data["application"] == "psql"
    assert entry.data["backend"] == person.info.backend_pid


@pytest.mark.parametrize("table", GUARDED)
def test_every_main_table_is_guarded(person: psycopg.Connection[tuple[object, ...]], table: str) -> None:
    found = person.execute("SELECT 1 FROM pg_trigger WHERE tgrelid = %s::regclass AND tgname = 'caught'", [table])
    assert found.fetchone() == (1,)


def test_a_raw_truncate_is_recorded(person: psycopg.Connection[tuple[object, ...]]) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        person.execute("TRUNCATE fleet_key")
    with roles.as_owner(), connection.cursor() as cursor:
        cursor.execute("SET application_name = 'pgAdmin'")
        cursor.execute("TRUNCATE fleet_key")
    assert raw_writes() == [("database.truncate", "fleet_key", None)]


def test_the_fleets_own_sessions_are_not_recorded(person: psycopg.Connection[tuple[object, ...]]) -> None:
    User.objects.create_user("ann")
    User.objects.update(first_name="x")
    with hot_path.connect(name="test") as engine:
        engine.execute("UPDATE auth_user SET first_name = 'y'")
    assert raw_writes() == []
