"""The advisory locks of Postgres that the fleet uses, all in one place so that no two share a key.

Transaction locks end with the transaction of the connection that takes them, session locks with `session`'s block.
See https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

from django.db import connection


class Lock(IntEnum):
    """Locks without a subject. The numbers spell `fleet` and a serial number; they must never be reused."""

    PREPARE = 0x666C656574_0001  # migrations: one process at a time
    SEALING = 0x666C656574_0002  # of the audit trail: one seal at a time
    ADMISSION = 0x666C656574_0003  # two control loops must not both grant the last place under a limit
    SCALING = 0x666C656574_0004  # one control loop scales at a time
    THINNING = 0x666C656574_0005  # one process thins the samples of agents


class SubjectLock(IntEnum):
    """Locks on one subject each, by the hash of its name. A collision only makes one caller wait for another."""

    CONDITIONAL_CHANGE = 1  # If-Match: check and change as one step
    IDEMPOTENT_REQUEST = 2  # one request per Idempotency-Key


def try_lock(lock: Lock) -> bool:
    """Take it until the transaction ends; False where another holds it."""
    return bool(_value("SELECT pg_try_advisory_xact_lock(%s)", [lock]))


def lock_subject(lock: SubjectLock, subject: str) -> None:
    """Wait for it, and hold it until the transaction ends."""
    _value("SELECT pg_advisory_xact_lock(%s, %s)", [lock, _hash(subject)])


def try_lock_subject(lock: SubjectLock, subject: str) -> bool:
    """Take it until the transaction ends; False where another holds it."""
    return bool(_value("SELECT pg_try_advisory_xact_lock(%s, %s)", [lock, _hash(subject)]))


@contextmanager
def session(lock: Lock) -> Iterator[None]:
    """Wait for it, and hold it until the block ends, whatever transactions run inside."""
    _value("SELECT pg_advisory_lock(%s)", [lock])
    try:
        yield
    finally:
        _value("SELECT pg_advisory_unlock(%s)", [lock])


def _value(statement: str, parameters: list[Any]) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchone()[0]


def _hash(subject: str) -> int:
    return zlib.crc32(subject.encode()) - 2**31
