"""Lines from upper layers that `fleet_up` prints after the addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from django.db import Error, connection

from fleet import registrations

Announcement = Callable[[], Iterable[str]]
_announcements: list[Announcement] = []


def register(announcement: Announcement) -> None:
    """Register a function that returns lines of text. It may query the database."""
    _announcements.append(announcement)


def lines() -> list[str]:
    """The lines of all announcements; none if Postgres does not answer."""
    registrations.load()
    try:
        return [line for announcement in _announcements for line in announcement()]
    except Error:
        return []
    finally:
        connection.close()
