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


class Changed(errors.Conflict):
    """It has changed since you read it."""

    code = "changed"
    status = 412


class Unguarded(errors.Invalid):
    """A change needs the If-Match header, so that nobody overwrites a change they have not seen."""

    code = "if_match_required"
    status = 428


@contextmanager
def alone(thing: str) -> Iterator[None]:
    """One at a time may look whether a thing is still what its client has seen, and change it. In Postgres, by a lock that only
    those take, so that nobody else waits for it."""
    with transaction.atomic():
        locks.lock_subject(SubjectLock.CONDITIONAL_CHANGE, thing)
        yield


def tag(value: Any) -> str:
    """The entity tag of what a client has read of a thing."""
    return f'"{hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]}"'


def guard(*, request: Request, current: str) -> None:
    """Let a change happen only to what its sender has seen."""
    shown = request.headers.get("If-Match")
    if shown is None:
        raise Unguarded(hint="Send the ETag of the last GET.")
    if shown.strip() != "*" and current not in [one.strip() for one in shown.split(",")]:
        raise Changed(hint="Read it again and retry.")


def answered(*, request: Request, response: Response) -> Response:
    """304 where the client has it already."""
    mine = response.headers.get("ETag")
    shown = request.headers.get("If-None-Match")
    if (
        request.method == "GET"
        and mine
        and shown
        and mine in [one.strip().removeprefix("W/") for one in shown.split(",")]
    ):
        return Response(status=304, headers={"ETag": mine})
    return response
