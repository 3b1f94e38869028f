"""The two tables of the trail, for reading. They are in their own schema and written by SQL alone.

They are unmanaged: Django neither creates, alters nor empties them, because they can belong to another role
(`protection`).
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models

from fleet import values

UNREADABLE = 1_000  # characters


class Outcome(models.TextChoices):
    OK = "ok"
    DENIED = "denied"  # the caller lacked the permission
    FAILED = "failed"  # the attempt failed, such as a wrong password


class Document(models.JSONField):
    """JSON that can always be shown: what the fleet does not accept (fleet/values.py) is read as `{"unreadable": text}`.

    Whoever has the application's password may add such a document, and must not make a page of the trail unreadable.
    """

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return values.parse(value)
        except (ValueError, RecursionError):
            return {"unreadable": value[:UNREADABLE]}

    def deconstruct(self) -> Any:
        name, _, arguments, options = super().deconstruct()
        return name, "django.db.models.JSONField", arguments, options  # the migrations need no more


class Entry(models.Model):
    """Something that someone did or tried to do. `Seal.leaves` names the entries that a seal covers."""

    id = models.BigIntegerField(primary_key=True)
    at = models.DateTimeField()  # the database's time at the INSERT
    cluster = models.BigIntegerField()  # the system identifier of the Postgres cluster that assigned `xid`
    xid = models.BigIntegerField()  # the transaction that wrote the entry
    kind = models.CharField(max_length=60)  # "sign_in", "denied", "limit", "role.changed", "mission.launch", …
    outcome = models.CharField(max_length=6, choices=Outcome)
    actor = models.CharField(max_length=200)  # the name of fleet.caller; "database:ROLE" for raw SQL
    user_id = models.BigIntegerField(null=True)  # the user on whose behalf; may have been deleted
    address = models.CharField(max_length=64)
    request = models.CharField(max_length=100)
    subject = models.CharField(max_length=200)  # a typed id, or "user:ann", or a table
    before = Document(null=True)
    after = Document(null=True)
    data = Document()

    class Meta:
        managed = False
        db_table = '"fleet_audit"."entry"'
        verbose_name, verbose_name_plural = "audit entry", "audit trail"
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.id} {self.kind}"


class Seal(models.Model):
    """One link of the chain: the hashes of a batch of entries, and the digest of the previous link."""

    number = models.BigIntegerField(primary_key=True)  # from 1, without gaps
    at = models.DateTimeField()
    cluster = models.BigIntegerField()
    first_xid = models.BigIntegerField()
    first_id = models.BigIntegerField()
    last_xid = models.BigIntegerField()
    last_id = models.BigIntegerField()
    count = models.IntegerField()
    leaves = models.BinaryField()  # for each entry in order its id (8 bytes, big-endian) and its SHA-256 (32 bytes)
    previous = models.CharField(max_length=64)  # the digest of the previous seal; 64 zeros for the first
    digest = models.CharField(max_length=64)  # SHA-256 of the other columns (fleet.audit.chain)

    class Meta:
        managed = False
        db_table = '"fleet_audit"."seal"'
        ordering: ClassVar = ["number"]

    def __str__(self) -> str:
        return f"{self.number} {self.digest[:12]}"
