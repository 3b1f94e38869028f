"""Tickets. They are in Postgres, because a ticket must work exactly once, and Redis may lose its data at any time."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Ticket(models.Model):
    """Opens one stream, once. Its text is sent to the client and not stored."""

    digest = models.CharField(primary_key=True, max_length=64)  # sha256 of the text, which is 256 random bits
    path = models.CharField(max_length=200)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    session = models.UUIDField(null=True)  # the credential of the caller: fleet.live.grants
    key = models.UUIDField(null=True)
    browser = models.CharField(max_length=40, default="")
    expires_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["expires_at"], name="ticket_by_expiry")]
