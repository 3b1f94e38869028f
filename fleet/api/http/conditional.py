"""ETag, If-None-Match and If-Match (RFC 9110, section 13; RFC 6585 for 428)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction
from rest_framework.request import Request
from rest_framework.response import Response

from fleet import errors
from fleet.postgres import locks
from fleet.postgres.locks import SubjectLock


class PreconditionFailed(errors.Conflict):
    """It has changed since you read it."""

    code = "changed"
    status = 412


class IfMatchRequired(errors.Invalid):
    """A change needs the If-Match header, so that no client overwrites a change that it has not seen."""

    code = "if_match_required"
    status = 428


@contextmanager
def exclusive(subject: str) -> Iterator[None]:
    """A transaction in which only one caller at a time checks and changes the subject.

    It holds an advisory lock that only such changes take, so it delays nothing else.
    """
    with transaction.atomic():
        locks.lock_subject(SubjectLock.CONDITIONAL_CHANGE, subject)
        yield


def etag(value: Any) -> str:
    """The entity tag of a JSON value."""
    return f'"{hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]}"'


def check_if_match(*, request: Request, current: str) -> None:
    """Raise IfMatchRequired without an If-Match header, and PreconditionFailed if it lacks the current ETag."""
    header = request.headers.get("If-Match")
    if header is None:
        raise IfMatchRequired(hint="Send the ETag of the last GET.")
    if header.strip() != "*" and current not in [tag.strip() for tag in header.split(",")]:
        raise PreconditionFailed(hint="Read it again and retry.")


def apply_if_none_match(*, request: Request, response: Response) -> Response:
    """Return a 304 if the client already has this version, otherwise the response itself."""
    current = response.headers.get("ETag")
    header = request.headers.get("If-None-Match")
    if (
        request.method == "GET"
        and current
        and header
        and current in [tag.strip().removeprefix("W/") for tag in header.split(",")]
    ):
        return Response(status=304, headers={"ETag": current})
    return response
