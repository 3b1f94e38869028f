"""Reads the trail."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet

from fleet.audit.models import Entry


def entries(
    *, kind: str = "", actor: str = "", subject: str = "", outcome: str = "", since: datetime | None = None
) -> QuerySet[Entry]:
    """Return the matching entries, newest first. `kind` includes its subkinds: "role" matches "role.changed"."""
    matching = Entry.objects.order_by("-id")
    if kind:
        matching = matching.filter(Q(kind=kind) | Q(kind__startswith=f"{kind}."))
    if actor:
        matching = matching.filter(actor=actor)
    if subject:
        matching = matching.filter(subject=subject)
    if outcome:
        matching = matching.filter(outcome=outcome)
    return matching if since is None else matching.filter(at__gte=since)


def serialize_entry(entry: Entry) -> dict[str, Any]:
    """Return an entry as JSON output shows it."""
    return {
        "id": entry.id,
        "at": entry.at.isoformat(),
        "kind": entry.kind,
        "outcome": entry.outcome,
        "actor": entry.actor,
        "user": entry.user_id,
        "address": entry.address,
        "request": entry.request,
        "subject": entry.subject,
        "before": entry.before,
        "after": entry.after,
        "data": entry.data,
    }
