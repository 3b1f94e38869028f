"""What of signing in and of answered requests need not be kept."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Q, QuerySet

from fleet.access.models import Session
from fleet.api.models import Answer

ANSWERED = timedelta(hours=24)  # so long an Idempotency-Key is remembered, at least
ENDED = timedelta(days=7)  # so long a session that is over can be looked at


def sessions(*, now: datetime) -> QuerySet[Session]:
    """Those that ended or expired long ago."""
    return Session.objects.filter(Q(expires_at__lt=now - ENDED) | Q(ended_at__lt=now - ENDED))


def answers(*, now: datetime) -> QuerySet[Answer]:
    """Answers to requests with an Idempotency-Key that nobody sends again."""
    return Answer.objects.filter(at__lt=now - ANSWERED)
