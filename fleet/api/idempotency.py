"""A POST with an `Idempotency-Key` has its effect once: whoever sends it again gets the answer of the first time.

The answer is written in the transaction of the effect, so there is never one without the other. The same key with another
body is Invalid (422), and one whose first request is still being answered a Conflict (409), as in the IETF draft
"The Idempotency-Key HTTP Header Field".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from fleet import errors
from fleet.api.models import Answer
from fleet.postgres import locks
from fleet.postgres.locks import SubjectLock

LONGEST = 200
REMEMBERED = timedelta(hours=24)


def once(*, request: Request, asker: str, act: Callable[[], Response]) -> Response:
    """`act`, or what it answered before."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return act()
    if not key or len(key) > LONGEST or not (key.isascii() and key.isprintable()):
        raise errors.Invalid(
            f"The Idempotency-Key must be printable ASCII of 1 to {LONGEST} characters.",
            hint="A UUID works well.",
        )
    said = _digest(request)
    with transaction.atomic():
        if not locks.try_lock_subject(SubjectLock.IDEMPOTENT_REQUEST, asker + key):
            raise errors.Conflict("The first request with this Idempotency-Key is still in progress.", hint="Wait.")
        before = Answer.objects.filter(asker=asker, key=key).first()
        if before is not None:
            if before.request != said:
                raise errors.Invalid(
                    "This Idempotency-Key was used for another request.",
                    hint="Use a new key for each operation.",
                )
            return _again(before)
        response = act()
        Answer.objects.create(
            asker=asker,
            key=key,
            request=said,
            status=response.status_code,
            body=response.data,
            location=response.headers.get("Location", ""),
        )
    return response


def _again(before: Answer) -> Response:
    headers = {"Idempotency-Replayed": "true", **({"Location": before.location} if before.location else {})}
    return Response(before.body, status=before.status, headers=headers)


def _digest(request: Request) -> str:
    said: Any = request._request.body
    return hashlib.sha256(f"{request.method} {request.path}\n".encode() + said).hexdigest()


def outdated(*, now: datetime) -> QuerySet[Answer]:
    """Stored answers that are past their time: their keys may be used again."""
    return Answer.objects.filter(at__lt=now - REMEMBERED)
