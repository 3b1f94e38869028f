"""Turns the entries of the supervisor's journal into events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.conf import settings

from fleet.events.models import Event
from fleet.services import journal


def record() -> int:
    """Move the journal's entries into the table of events and return their number.

    The journal may deliver an entry twice; it becomes one event.
    """
    return journal.drain(settings.FLEET_HOME, _insert)


def _insert(entries: Sequence[journal.JournalEntry]) -> None:
    by_id = {UUID(entry.id): entry for entry in entries}
    recorded = set(Event.objects.filter(subject__in=list(by_id), scope=None).values_list("subject", flat=True))
    Event.objects.bulk_create(
        Event(
            kind=entry.kind,
            at=datetime.fromisoformat(entry.at),
            subject=id,
            data={"service": entry.service, "message": entry.message, **entry.data},
        )
        for id, entry in by_id.items()
        if id not in recorded
    )
