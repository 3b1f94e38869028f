"""The Celery application: `celery -A fleet.celery …`.

Its messages are hints (see missions/control/duties.py), so they are not durable: they are acknowledged early, and there
are no results, retries or redeliveries. docs/settings.md explains each setting.
"""

from __future__ import annotations

import os
from typing import NoReturn

from celery import Celery
from kombu import compression

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")


def _refuse(body: bytes) -> NoReturn:
    raise ValueError("compressed messages are not accepted")


# 2 kB of bzip2 in Redis could otherwise take all memory of a host, in agents and in Flower.
for content_type in compression.encoders():
    compression.register(_refuse, _refuse, content_type)

app = Celery("fleet")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
