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

    class Meta:
        ordering = ["id"]
        indexes = [
            models.Index(fields=["scope", "xid", "id"], name="event_by_scope"),
            models.Index(
                fields=["xid", "id"], name="event_by_commit"
            ),  # for who follows the whole fleet: fleet.live.hub
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
