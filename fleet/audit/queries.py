"""Reading the trail."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet

from fleet.audit.models import Entry


def entries(
    *, kind: str = "", actor: str = "", subject: str = "", outcome: str = "", since: datetime | None = None
) -> QuerySet[Entry]:
    """The newest first. `kind` takes in what lies below it: "role" finds "role.changed"."""
    found = Entry.objects.order_by("-id")
    if kind:
        found = found.filter(Q(kind=kind) | Q(kind__startswith=f"{kind}."))
    if actor:
        found = found.filter(actor=actor)
    if subject:
        found = found.filter(subject=subject)
    if outcome:
        found = found.filter(outcome=outcome)
    return found if since is None else found.filter(at__gte=since)


def described(entry: Entry) -> dict[str, Any]:
    """An entry as programs read it."""
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
