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
        REQUEST = "request"  # by a person or a program
        INTERVAL = "interval"
        PROGRESS = "progress"  # a configured number or share of sorties has ended
        CANCEL = "cancel"  # before the mission was cancelled
        RESTORE = "restore"  # before the mission was restored
        CLEANUP = "cleanup"  # before its rows were removed
        FAILURE = "failure"  # a sortie has failed
        END = "end"  # the mission has ended, and an earlier checkpoint shows it live
        SHUTDOWN = "shutdown"
        IMPORT = "import"

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    missions = ArrayField(models.UUIDField())
    name = models.CharField(max_length=200, blank=True, default="")
    note = models.CharField(max_length=1_000, blank=True, default="")
    trigger = models.CharField(max_length=10, choices=Trigger)
    keep = models.BooleanField(default=False)  # exempt from retention
    digest = models.CharField(max_length=64)  # of the manifest, which contains the digests of everything else
    # The `pg_snapshot` of the capture, with which the next capture finds what has changed.
    snapshot = models.TextField()
    parent = models.UUIDField(null=True)  # only for information: no checkpoint needs another one
    sorties = models.IntegerField()
    ended = models.IntegerField()  # sorties that have ended
    failed = models.IntegerField()
    bytes = models.BigIntegerField()  # size of all its files, compressed
    new_bytes = models.BigIntegerField()  # size of the files that no earlier checkpoint had
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, db_index=False)
    # The mission's owner and team when it was captured, who keep their access after the mission's rows are gone.
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
