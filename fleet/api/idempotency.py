"""A POST with an `Idempotency-Key` takes effect once. Repeating it returns the first response.

The response is stored in the transaction of the effect, so neither exists without the other. An operation that commits
transactions of its own is the exception: its response is stored right after it, so a crash in between loses the
response. The same key with a different body is Invalid (422). A key whose first request is still in progress is a
Conflict (409). Both follow the IETF draft "The Idempotency-Key HTTP Header Field".

The same key is also Invalid if the caller's permissions or teams have changed: the stored response may contain data
that the caller may no longer see, and the request must not take effect twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from fleet import errors
from fleet.api.models import IdempotentResponse
from fleet.postgres import locks
from fleet.postgres.locks import SubjectLock

MAX_LENGTH = 200  # characters of a key
RETENTION = timedelta(hours=24)


def once(
    *,
    request: Request,
    caller: str,
    access: Callable[[], str],
    handle: Callable[[], Response],
    commits: bool = False,
) -> Response:
    """The response of `handle()`, or the stored response to an earlier request with the same key.

    `caller`: the owner of the keys, so that two callers may use the same key. `access`: a fingerprint of what the
    caller may do and see. `commits`: `handle` commits transactions of its own, so it is called outside one.
    """
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return handle()
    if not key or len(key) > MAX_LENGTH or not (key.isascii() and key.isprintable()):
        raise errors.Invalid(
            f"The Idempotency-Key must be printable ASCII of 1 to {MAX_LENGTH} characters.",
            hint="A UUID works well.",
        )
    digest = _digest(request, access())
    with _exclusive(f"{caller} {key}", commits=commits) as acquired:
        if not acquired:
            raise errors.Conflict(
                "The first request with this Idempotency-Key is still in progress.", hint="Retry later."
            )
        stored = IdempotentResponse.objects.filter(caller=caller, key=key).first()
        if stored is not None:
            if stored.request != digest:
                raise errors.Invalid(
                    "This Idempotency-Key was used for another request, or with other permissions.",
                    hint="Use a new key for each operation.",
                )
            return _replay(stored)
        response = handle()
        IdempotentResponse.objects.create(
            caller=caller,
            key=key,
            request=digest,
            status=response.status_code,
            body=response.data,
            location=response.headers.get("Location", ""),
        )
    return response


@contextmanager
def _exclusive(subject: str, *, commits: bool) -> Iterator[bool]:
    """Hold the lock of a key; yields False if another request holds it."""
    if commits:
        with locks.try_session_subject(SubjectLock.IDEMPOTENT_REQUEST, subject) as acquired:
            yield acquired
    else:
        with transaction.atomic():
            yield locks.try_lock_subject(SubjectLock.IDEMPOTENT_REQUEST, subject)


def _replay(stored: IdempotentResponse) -> Response:
    headers = {"Idempotency-Replayed": "true", **({"Location": stored.location} if stored.location else {})}
    return Response(stored.body, status=stored.status, headers=headers)


def _digest(request: Request, access: str) -> str:
    body: Any = request._request.body
    return hashlib.sha256(f"{request.method} {request.path}\n{access}\n".encode() + body).hexdigest()


def outdated(*, now: datetime) -> QuerySet[IdempotentResponse]:
    """Stored responses past their retention. Their keys may be used again."""
    return IdempotentResponse.objects.filter(at__lt=now - RETENTION)
