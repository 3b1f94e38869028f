"""What the supervisor has written down about services becomes events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.conf import settings

from fleet.events.models import Event
from fleet.services import journal


def record() -> int:
    """Move the journal's entries into the table; each once, though the journal may hand one over twice."""
    return journal.drain(settings.FLEET_HOME, _accept)


def _accept(entries: Sequence[journal.Entry]) -> None:
    ids = {UUID(entry.id): entry for entry in entries}
    known = set(Event.objects.filter(subject__in=list(ids), scope=None).values_list("subject", flat=True))
    Event.objects.bulk_create(
        Event(
            kind=entry.kind,
            at=datetime.fromisoformat(entry.at),
            subject=id,
            data={"service": entry.service, "message": entry.message, **entry.data},
        )
        for id, entry in ids.items()
        if id not in known
    )
