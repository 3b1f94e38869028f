"""The trail's two tables, for reading. They lie in a schema of their own and are written by SQL alone: Django neither makes,
changes nor empties them, for they can belong to a role that the fleet is not (`protection`)."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class Outcome(models.TextChoices):
    OK = "ok"
    DENIED = "denied"  # whoever asked may not
    FAILED = "failed"  # it was tried and came to nothing: a wrong password, say


class Entry(models.Model):
    """One thing that somebody did or tried. Which chain link seals it is told by `Seal.leaves`."""

    id = models.BigIntegerField(primary_key=True)
    at = models.DateTimeField()  # by the database's clock, when it was written
    cluster = models.BigIntegerField()  # the system identifier of the Postgres that counted `xid`
    xid = models.BigIntegerField()  # the transaction that wrote it
    kind = models.CharField(max_length=60)  # "sign_in", "denied", "limit", "role.changed", "mission.launch", …
    outcome = models.CharField(max_length=6, choices=Outcome)
    actor = models.CharField(max_length=200)  # as fleet.access.caller has it; "database:NAME" of raw SQL
    user_id = models.BigIntegerField(null=True)  # on whose behalf; the user may be gone by now
    address = models.CharField(max_length=64)
    request = models.CharField(max_length=100)
    subject = models.CharField(max_length=200)  # a typed id, or "user:ann", or a table
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    data = models.JSONField()

    class Meta:
        managed = False
        db_table = '"fleet_audit"."entry"'
        verbose_name, verbose_name_plural = "audit entry", "audit entries"
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.id} {self.kind}"


class Seal(models.Model):
    """One link of the chain: what the entries of a batch were, and the link before it."""

    number = models.BigIntegerField(primary_key=True)  # from 1, without a gap
    at = models.DateTimeField()
    cluster = models.BigIntegerField()
    first_xid = models.BigIntegerField()
    first_id = models.BigIntegerField()
    last_xid = models.BigIntegerField()
    last_id = models.BigIntegerField()
    count = models.IntegerField()
    leaves = models.BinaryField()  # of each entry in order: its id (8 bytes, big-endian) and its SHA-256 (32 bytes)
    previous = models.CharField(max_length=64)  # the digest of the seal before; 64 zeros for the first
    digest = models.CharField(max_length=64)  # SHA-256 over all the above (fleet.audit.chain)

    class Meta:
        managed = False
        db_table = '"fleet_audit"."seal"'
        ordering: ClassVar = ["number"]

    def __str__(self) -> str:
        return f"{self.number} {self.digest[:12]}"
