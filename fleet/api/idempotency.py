"""A POST with an `Idempotency-Key` has its effect once: whoever sends it again gets the answer of the first time.

The answer is written in the transaction of the effect, so there is never one without the other. The same key with another
body is Invalid (422), and one whose first request is still being answered a Conflict (409), as in the IETF draft
"The Idempotency-Key HTTP Header Field".
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from typing import Any

from django.db import connection, transaction
from rest_framework.request import Request
from rest_framework.response import Response

from fleet import errors
from fleet.api.models import Answer

LONGEST = 200


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
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [_number("idempotency"), _number(asker + key)])
            (alone,) = cursor.fetchone()
        if not alone:
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


def _number(text: str) -> int:
    return zlib.crc32(text.encode()) - 2**31
