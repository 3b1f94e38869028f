"""What the site loads before it forks the processes that answer: what Django loads at the first request."""

import psycopg_pool  # noqa: F401
from django.contrib.messages.storage import fallback  # noqa: F401
from django.contrib.sessions import serializers  # noqa: F401
