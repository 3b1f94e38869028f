from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import models
from django.db.models.functions import Cast, Now

from fleet import ids


class TransactionId(models.Func):
    """The id of the transaction that writes the row; of Postgres's type xid8, which casts to text only."""

    function = "pg_current_xact_id"
    output_field = models.BigIntegerField()


# Through which each sortie passes: so many that one of them is found wherever one looks.
FREQUENT = ("sortie.queued", "sortie.running", "sortie.succeeded")
_SELDOM = ~models.Q(kind__in=FREQUENT)


class Noun(models.Func):
    """What stands before the point of a kind."""

    function = "split_part"
    template = "%(function)s(%(expressions)s, '.', 1)"
    output_field = models.TextField()


class EventQuerySet(models.QuerySet["Event"]):
    def of_kind(self, kind: str) -> EventQuerySet:
        """Those of a kind ("sortie.failed"), or of all kinds of a noun ("mission"). What is seldom has an index of its own, which
        an event of the hot path does not pay for."""
        if "." in kind:
            return self.filter(kind=kind) if kind in FREQUENT else self.filter(_SELDOM, kind=kind)
        found = self.alias(noun=Noun("kind")).filter(noun=kind)
        return found if any(one.startswith(f"{kind}.") for one in FREQUENT) else found.filter(_SELDOM)


class Event(models.Model):
    """Something that happened, written in the transaction that made it happen.

    Ids are drawn before commit, so a small one may become visible after a larger one. A reader that follows the
    stream goes by the transaction first (`fleet.events.stream`).
    """

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(db_default=Now())
    xid = models.BigIntegerField(
        db_default=Cast(Cast(TransactionId(), models.TextField()), models.BigIntegerField()), editable=False
    )
    kind = models.CharField(max_length=60)  # "<noun>.<what became of it>": sortie.running, mission.failed, service.slow
    scope = models.UUIDField(null=True)  # whose followers hear of it: the mission
    subject = models.UUIDField(null=True)  # what it happened to
    data = models.JSONField(default=dict, db_default=models.Value({}, models.JSONField()))

    objects = EventQuerySet.as_manager()
    name: str | None = None  # of the subject, where it was looked up: fleet/events/naming.py

    class Meta:
        ordering = ["id"]
        indexes = [
            models.Index(fields=["scope", "xid", "id"], name="event_by_scope"),
            models.Index(fields=["xid", "id"], name="event_by_commit"),  # for who follows the fleet: fleet.live.hub
            models.Index("kind", "id", name="event_seldom", condition=_SELDOM),
            models.Index(Noun("kind"), "id", name="event_seldom_noun", condition=_SELDOM),
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.kind}"

    @property
    def told(self) -> dict[str, Any]:
        """Its data as people and programs read it: an agent by its id (`agt_…`)."""
        agent = self.data.get("agent")
        try:
            return {**self.data, "agent": ids.encode(ids.AGENT, UUID(agent))} if agent else self.data
        except ValueError:
            return dict(self.data)
