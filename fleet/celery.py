"""The Celery application: `celery -A fleet.celery …`.

Its messages are hints (see missions/control/duties.py), so they are not durable: they are acknowledged early, and there
are no results, retries or redeliveries. docs/settings.md explains each setting.
"""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")

app = Celery("fleet")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
