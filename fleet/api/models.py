"""Stored responses for requests with an Idempotency-Key."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class IdempotentResponse(models.Model):
    """The response to a POST, written in the transaction of its effect."""

    caller = models.CharField(max_length=200)  # ApiView.idempotency_caller
    key = models.CharField(max_length=200)
    request = models.CharField(max_length=64)  # sha256 of method, path, access of the caller, and body
    status = models.SmallIntegerField()
    body = models.JSONField(null=True)
    location = models.CharField(max_length=300, default="")
    at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["caller", "key"], name="idempotent_response_once")]
        indexes = [models.Index(fields=["at"], name="idempotent_response_by_age")]
