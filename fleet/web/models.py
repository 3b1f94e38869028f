"""Since when the site has been answering."""

from __future__ import annotations

from django.db import models


class Uptime(models.Model):
    """One row, which every process of the site writes (fleet/web/uptime.py)."""

    id = models.SmallIntegerField(primary_key=True)
    up_since = models.DateTimeField()  # at least one process has answered all the time since then
    heard_at = models.DateTimeField()  # when one last did

    def __str__(self) -> str:
        return f"up since {self.up_since}"
