"""The table of events: everything that happened, in order."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import models
from django.db.models.functions import Cast, Now

from fleet import ids


class TransactionId(models.Func):
    """The id of the current transaction, of Postgres's type xid8, which can be cast only to text."""

    function = "pg_current_xact_id"
    output_field = models.BigIntegerField()


# Every sortie passes through these, so a scan without an index soon finds one.
FREQUENT = ("sortie.queued", "sortie.running", "sortie.succeeded")
_RARE = ~models.Q(kind__in=FREQUENT)
# The nouns of kinds whose subject has an id, and the prefixes of these ids.
PREFIXES = {
    "sortie": ids.SORTIE,
    "mission": ids.MISSION,
    "schedule": ids.SCHEDULE,
    "checkpoint": ids.CHECKPOINT,
    "agent": ids.AGENT,
    "node": ids.NODE,
}


class Noun(models.Func):
    """The part of a kind before the dot."""

    function = "split_part"
    template = "%(function)s(%(expressions)s, '.', 1)"
    output_field = models.TextField()


class EventQuerySet(models.QuerySet["Event"]):
    def of_kind(self, kind: str) -> EventQuerySet:
        """Filter by a kind ("sortie.failed") or by a noun ("mission").

        Rare kinds have a separate index, which the frequent events of the hot path need not update.
        """
        if "." in kind:
            return self.filter(kind=kind) if kind in FREQUENT else self.filter(_RARE, kind=kind)
        of_noun = self.alias(noun=Noun("kind")).filter(noun=kind)
        return of_noun if any(name.startswith(f"{kind}.") for name in FREQUENT) else of_noun.filter(_RARE)


class Event(models.Model):
    """Something that happened, written in the transaction that made it happen.

    Ids are assigned before the commit, so a small one may become visible after a larger one. A reader that follows the
    stream must therefore order by transaction first (`fleet.events.stream`).
    """

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(db_default=Now())
    xid = models.BigIntegerField(
        db_default=Cast(Cast(TransactionId(), models.TextField()), models.BigIntegerField()), editable=False
    )
    kind = models.CharField(max_length=60)  # "<noun>.<new state>": sortie.running, mission.failed, service.slow
    scope = models.UUIDField(null=True)  # the mission, whose followers get this event
    subject = models.UUIDField(null=True)  # the object that it happened to
    data = models.JSONField(default=dict, db_default=models.Value({}, models.JSONField()))

    objects = EventQuerySet.as_manager()
    name: str | None = None  # of the subject, set by fleet/events/naming.py

    class Meta:
        ordering = ["id"]
        indexes = [
            models.Index(fields=["scope", "xid", "id"], name="event_by_scope"),
            models.Index(fields=["xid", "id"], name="event_by_commit"),  # for the stream of all events: fleet.live.hub
            models.Index("kind", "id", name="event_seldom", condition=_RARE),
            models.Index(Noun("kind"), "id", name="event_seldom_noun", condition=_RARE),
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.kind}"

    @property
    def subject_ref(self) -> str | None:
        """The typed id of the subject, such as `srt_…`; None if it has none."""
        prefix = PREFIXES.get(self.kind.partition(".")[0])
        return ids.encode(prefix, self.subject) if self.subject and prefix else None

    @property
    def public_data(self) -> dict[str, Any]:
        """The data for people and programs: the UUID of an agent is replaced by its typed id (`agt_…`)."""
        agent = self.data.get("agent")
        try:
            return {**self.data, "agent": ids.encode(ids.AGENT, UUID(agent))} if agent else self.data
        except ValueError:
            return dict(self.data)
