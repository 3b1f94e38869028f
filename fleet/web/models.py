"""The uptime of the site."""

from __future__ import annotations

from django.db import models


class Uptime(models.Model):
    """A single row, which every process of the site updates (fleet/web/uptime.py)."""

    id = models.SmallIntegerField(primary_key=True)
    up_since = models.DateTimeField()  # at least one process has been up since then
    heartbeat_at = models.DateTimeField()  # the last heartbeat of any process

    def __str__(self) -> str:
        return f"up since {self.up_since}"
