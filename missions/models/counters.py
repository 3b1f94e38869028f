"""Running totals of what happened, and alerts."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class Counter(models.Model):
    """A running total of something that happened. It never falls, even when the rows that it counted are removed.

    missions/queries/sql/count_settled.sql does the counting; the bounds of the buckets are in
    missions/queries/counters.py.
    """

    series = models.CharField(max_length=20)
    subject = models.CharField(max_length=60)  # an agent type, or a service; empty for missions
    outcome = models.CharField(max_length=12)
    bucket = models.SmallIntegerField()  # of the duration; 0 if it has none
    number = models.BigIntegerField()
    seconds = models.FloatField()  # sum of the durations

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["series", "subject", "outcome", "bucket"], name="counter_once"),
        ]

    def __str__(self) -> str:
        return f"{self.series} {self.subject} {self.outcome}: {self.number}"


class CounterMark(models.Model):
    """How far the events have been counted: one row, which is also the lock. See missions/queries/counters.py."""

    id = models.SmallIntegerField(primary_key=True)
    snapshot = models.TextField()  # every event visible in it has been counted
    settled = models.BigIntegerField(default=0)  # events up to this id are counted, and none can still appear
    drawn = models.BigIntegerField(default=0)  # the last event id that had been allocated when this row was written
    coming = models.BigIntegerField(default=0)  # the next value of `settled`,
    coming_xid = models.BigIntegerField(default=0)  # once all transactions before this one have ended
    at = models.DateTimeField(db_default=Now())  # when `drawn` was read
    past = models.JSONField(default=list)  # [[seconds, {"lost": 3, …}], …]: totals that alerts compare with


class Alert(models.Model):
    """A condition that operators should look at now. The row is deleted when it is cleared; its events remain."""

    rule = models.CharField(max_length=30)
    subject = models.CharField(max_length=100)  # an agent type, a mission's id, or a service and its host
    message = models.CharField(max_length=500)
    raised_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(db_default=Now())  # when a check last found it

    class Meta:
        ordering = ["raised_at", "id"]
        constraints = [models.UniqueConstraint(fields=["rule", "subject"], name="alert_once")]

    def __str__(self) -> str:
        return self.message
