"""Hooks with which upper layers change the rows of a restored database.

Statements run in the transaction that restores the rows, so no other process sees the rows before they have run. They
must run on the tables of every release whose backups are accepted. Their only parameter is `lease`, in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fleet import registrations
from fleet.postgres import statements

Function = Callable[[], Iterator[str]]

_after_move: list[tuple[str, str]] = [("fleet.backup", "renumber_events")]
_after_restore: list[tuple[str, str]] = [("fleet.backup", "end_sign_ins")]
_after_migrations: list[Function] = []


def register_after_move(package: str, statement: str) -> None:
    """Register a statement for rows that may have moved to another cluster, where transactions have other numbers."""
    _after_move.append((package, statement))


def register_after_restore(package: str, statement: str) -> None:
    """Register a statement for rows that are older than what processes and files outside the database have seen."""
    _after_restore.append((package, statement))


def register_after_migrations(function: Function) -> None:
    """Register a function to call after the migrations; it yields lines for the operator."""
    _after_migrations.append(function)


def after_move() -> list[str]:
    registrations.load()
    return [statements.read(package, name) for package, name in _after_move]


def after_restore() -> list[str]:
    registrations.load()
    return [statements.read(package, name) for package, name in _after_restore]


def after_migrations() -> Iterator[str]:
    registrations.load()
    for function in _after_migrations:
        yield from function()
