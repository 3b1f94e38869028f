"""The table of checkpoints: one row each. The row is written after the files and deleted before them."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models.functions import Now

from fleet import ids


class Checkpoint(models.Model):
    """A snapshot of one or more missions. It refers to missions by id only, because it outlives their rows."""

    class Trigger(models.TextChoices):
        REQUEST = "request"  # a person or a program asked for it
        INTERVAL = "interval"
        PROGRESS = "progress"  # a number or a share of sorties has ended
        CANCEL = "cancel"  # before the mission was cancelled
        RESTORE = "restore"  # before the mission was restored
        CLEANUP = "cleanup"  # before its rows were removed
        FAILURE = "failure"  # a sortie has failed
        SHUTDOWN = "shutdown"
        IMPORT = "import"

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    missions = ArrayField(models.UUIDField())
    name = models.CharField(max_length=200, blank=True, default="")
    note = models.CharField(max_length=1_000, blank=True, default="")
    trigger = models.CharField(max_length=10, choices=Trigger)
    keep = models.BooleanField(default=False)  # never removed by retention
    digest = models.CharField(max_length=64)  # of the manifest, which contains the digests of everything else
    # The transactions that the capture saw (`pg_snapshot`), from which the next one finds what has changed.
    snapshot = models.TextField()
    parent = models.UUIDField(null=True)  # only for information: a checkpoint needs no other one
    sorties = models.IntegerField()
    ended = models.IntegerField()  # how many of these have ended
    failed = models.IntegerField()
    bytes = models.BigIntegerField()  # of all its files, compressed
    new_bytes = models.BigIntegerField()  # of the files that no earlier checkpoint had
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, db_index=False)
    # Of the mission when it was captured: they may see and restore it after the mission's rows are gone.
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, db_index=False, related_name="+"
    )
    team = models.ForeignKey("auth.Group", null=True, on_delete=models.SET_NULL, db_index=False, related_name="+")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-id"]
        indexes = [GinIndex(fields=["missions"], name="checkpoint_by_mission")]

    def __str__(self) -> str:
        return f"{self.name} ({self.ref})" if self.name else self.ref

    @property
    def ref(self) -> str:
        return ids.encode(ids.CHECKPOINT, self.id)
