"""A migration that cannot get its lock gives up, names the session that holds it, and retries."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import override_settings

from agents.models import AgentType
from fleet.management.commands import migrate
from fleet.postgres import batches, parameters
from tests.support import fleet

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)
MIGRATION = ("checkpoints", "0001_initial")  # creates a table that references auth_user, and locks it for that


@pytest.fixture
def reversed_migration() -> Iterator[None]:
    call_command("migrate", MIGRATION[0], "zero", verbosity=0)
    yield
    call_command("migrate", verbosity=0)


@contextmanager
def session_with_lock() -> Iterator[psycopg.Connection[Any]]:
    """Another session has changed a user, and keeps its transaction open."""
    with psycopg.connect(**parameters.from_django(application_name="a long report")) as session:
        session.execute("LOCK TABLE auth_user IN ROW EXCLUSIVE MODE")
        yield session


def is_applied() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM django_migrations WHERE app = %s AND name = %s", MIGRATION)
        return bool(cursor.fetchone()[0])


@pytest.mark.usefixtures("reversed_migration")
def test_it_names_the_blocking_session_and_finally_gives_up() -> None:
    command, messages = migrate.Command(), io.StringIO()
    command.tries = 2
    with session_with_lock(), override_settings(FLEET_MIGRATE_LOCK_S=0.5), pytest.raises(CommandError) as excinfo:
        call_command(command, verbosity=0, stderr=messages)
    assert "checkpoints.0001_initial waited for a lock that process" in str(excinfo.value)
    assert "fleet a long report" in str(excinfo.value)
    assert "in a transaction that has been open for" in str(excinfo.value)
    assert "trying again in 0.5 s (2 of 2)" in messages.getvalue()
    assert not is_applied()


class Releasing(io.StringIO):
    """A stream that ends a session at the first write."""

    def __init__(self, session: psycopg.Connection[Any]) -> None:
        super().__init__()
        self._session = session

    def write(self, text: str, /) -> int:
        self._session.close()
        return super().write(text)


@pytest.mark.usefixtures("reversed_migration")
def test_it_succeeds_when_the_lock_is_free_again() -> None:
    with session_with_lock() as session, override_settings(FLEET_MIGRATE_LOCK_S=0.5):
        messages = Releasing(session)
        call_command("migrate", verbosity=0, stderr=messages)
    assert "trying again in 0.5 s (2 of 10)" in messages.getvalue()
    assert is_applied()


@pytest.mark.usefixtures("reversed_migration")
def test_other_sessions_continue_while_it_waits() -> None:
    """A session that waits for a lock blocks all later ones, so the wait must be short."""
    with session_with_lock() as session, override_settings(FLEET_MIGRATE_LOCK_S=0.5):
        migrating = threading.Thread(target=lambda: call_command("migrate", verbosity=0, stderr=io.StringIO()))
        migrating.start()
        for _ in range(3):  # the locks that statements of the old version take
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("UPDATE auth_user SET first_name = first_name WHERE username = 'none'")
        assert not is_applied()
        session.close()
        migrating.join()
    assert is_applied()


def test_rows_are_changed_in_batches() -> None:
    mission = fleet.launch({f"s{number}": {} for number in range(25)})
    rows = mission.sorties.filter(tries=0)
    assert batches.update_in_batches(rows, size=10, pause_s=0, tries=1) == 25
    assert batches.update_in_batches(rows, size=10, pause_s=0, tries=1) == 0
    assert AgentType.objects.filter(name="backend").exists()
