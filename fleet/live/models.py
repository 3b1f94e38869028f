"""Tickets: in Postgres, as Redis may be away or be emptied at any time, and a ticket must be good exactly once."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Ticket(models.Model):
    """Opens one stream, once. The text is shown to who asked for it and kept nowhere."""

    digest = models.CharField(primary_key=True, max_length=64)  # sha256 of the text, which is 256 random bits
    path = models.CharField(max_length=200)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    session = models.UUIDField(null=True)  # what the right of who asked rests upon: fleet.live.grants
    key = models.UUIDField(null=True)
    browser = models.CharField(max_length=40, default="")
    expires_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["expires_at"], name="ticket_by_expiry")]
