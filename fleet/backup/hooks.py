"""What upper layers have to do with restored rows.

Statements run in the transaction that restores the rows, so no other process ever sees the rows without them. They must
run on the tables of every release whose backups are accepted. Their only parameter is `lease`, in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fleet.postgres import statements

Follow = Callable[[], Iterator[str]]

_moved: list[tuple[str, str]] = [("fleet.backup", "renumber_events")]
_restored: list[tuple[str, str]] = [("fleet.backup", "end_sign_ins")]
_follow: list[Follow] = []


def register_moved(package: str, statement: str) -> None:
    """Register a statement for rows that may be in another cluster now, where transactions have other numbers."""
    _moved.append((package, statement))


def register_restored(package: str, statement: str) -> None:
    """Register a statement for rows that are older than what processes and files outside the database have seen."""
    _restored.append((package, statement))


def register_follow(follow: Follow) -> None:
    """Register what happens after the migrations; it yields lines for the operator."""
    _follow.append(follow)


def moved() -> list[str]:
    return [statements.read(package, name) for package, name in _moved]


def restored() -> list[str]:
    return [statements.read(package, name) for package, name in _restored]


def follow() -> Iterator[str]:
    for function in _follow:
        yield from function()
