"""All advisory locks of Postgres that the fleet uses, in one place so that no two share a key.

Transaction locks last until the end of the current transaction, session locks until the end of the block that takes
them. Such a block opens its own connection if Django's goes through PgBouncer, which keeps no sessions.
See https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

from django.conf import settings
from django.db import connection

from fleet import postgres
from fleet.postgres import parameters


class Lock(IntEnum):
    """Locks without a subject. A key spells `fleet` and a serial number, which must never be reused."""

    PREPARE = 0x666C656574_0001  # migrations
    SEALING = 0x666C656574_0002  # seals of the audit trail
    ADMISSION = 0x666C656574_0003  # two control loops must not both grant the last place under a limit
    SCALING = 0x666C656574_0004  # decisions to start or end agents
    THINNING = 0x666C656574_0005  # thinning of the samples of agents' resource usage
    CHECKPOINTS = 0x666C656574_0006  # shared by captures and restores; exclusive while checkpoints are deleted


class SubjectLock(IntEnum):
    """Locks on one subject each, by the hash of its name. A collision of hashes only makes a caller wait or try again."""

    CONDITIONAL_CHANGE = 1  # If-Match: check and change as one step
    IDEMPOTENT_REQUEST = 2  # one request per Idempotency-Key
    CHECKPOINT_NAME = 3  # the name of a checkpoint while it is captured


def try_lock(lock: Lock) -> bool:
    """Take the lock until the transaction ends; returns False if another session holds it."""
    return bool(_fetch_value("SELECT pg_try_advisory_xact_lock(%s)", [lock]))


def lock(lock: Lock, *, halted_s: float) -> None:
    """Wait for the lock and hold it until the transaction ends.

    Postgres ends the transaction if this process is halted for `halted_s` while it holds the lock.
    """
    _fetch_value("SELECT set_config('idle_in_transaction_session_timeout', %s, true)", [f"{halted_s * 1_000:.0f}ms"])
    _fetch_value("SELECT pg_advisory_xact_lock(%s)", [lock])


def lock_subject(lock: SubjectLock, subject: str) -> None:
    """Wait for the lock and hold it until the transaction ends."""
    _fetch_value("SELECT pg_advisory_xact_lock(%s, %s)", [lock, _hash(subject)])


def try_lock_subject(lock: SubjectLock, subject: str) -> bool:
    """Take the lock until the transaction ends; returns False if another session holds it."""
    return bool(_fetch_value("SELECT pg_try_advisory_xact_lock(%s, %s)", [lock, _hash(subject)]))


@contextmanager
def session(lock: Lock, *, shared: bool = False) -> Iterator[None]:
    """Wait for the lock and hold it until the block ends, across transactions."""
    kind = "_shared" if shared else ""
    with _session() as holder:
        _fetch_value(f"SELECT pg_advisory_lock{kind}(%s)", [lock], session=holder)
        try:
            yield
        finally:
            if _is_open(holder):  # else it is released already
                _fetch_value(f"SELECT pg_advisory_unlock{kind}(%s)", [lock], session=holder)


@contextmanager
def try_session_subject(lock: SubjectLock, subject: str) -> Iterator[bool]:
    """Try to hold the lock until the block ends, across transactions; yields whether that succeeded."""
    key = [lock, _hash(subject)]
    with _session() as holder:
        acquired = bool(_fetch_value("SELECT pg_try_advisory_lock(%s, %s)", key, session=holder))
        try:
            yield acquired
        finally:
            if acquired and _is_open(holder):
                _fetch_value("SELECT pg_advisory_unlock(%s, %s)", key, session=holder)


@contextmanager
def _session() -> Iterator[Any]:
    """A connection that keeps its session: Django's, or a new one if Django's goes through a pooler."""
    if settings.FLEET_ENDPOINTS.direct is None:
        yield connection
        return
    with connection.wrap_database_errors:
        holder = postgres.connect(**parameters.unpooled(application_name="lock"), autocommit=True)
    try:
        yield holder
    finally:
        holder.close()


def _is_open(session: Any) -> bool:
    if session is connection:
        return connection.connection is not None and not connection.connection.closed
    return not session.closed


def _fetch_value(statement: str, parameters: list[Any], *, session: Any = connection) -> Any:
    with connection.wrap_database_errors, session.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchone()[0]


def _hash(subject: str) -> int:
    return zlib.crc32(subject.encode()) - 2**31
