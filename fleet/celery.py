"""The Celery application: `celery -A fleet.celery …`.

Its messages are hints (see missions/control/duties.py), so nothing here makes them durable: early acknowledgement, no
results, no retries, no redelivery. Why each setting is what it is: docs/settings.md.
"""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")

app = Celery("fleet")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
