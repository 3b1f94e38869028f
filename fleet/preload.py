"""Modules that Django imports at the first request: the site imports them before it forks its web processes."""

import psycopg_pool  # noqa: F401
from django.contrib.messages.storage import fallback  # noqa: F401
from django.contrib.sessions import serializers  # noqa: F401

from fleet import registrations

registrations.load()
