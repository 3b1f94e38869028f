"""Writes entries, each with one INSERT in the caller's transaction, so that a change and its entry commit together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from django.db import connection

from fleet import caller
from fleet.observability import redaction
from fleet.postgres import statements


def record(
    *,
    kind: str,
    outcome: Literal["ok", "denied", "failed"] = "ok",
    subject: str = "",
    before: object = None,
    after: object = None,
    data: Mapping[str, object] | None = None,
) -> None:
    """Record that the current caller did something or tried to.

    `kind` is what happened ("role.changed"), `subject` what it happened to (a typed id), `before` and `after` are the
    state of the subject. Secrets are redacted (fleet.observability.redaction). Record a denial after the rollback of
    the transaction that it ends, because the rollback would undo the entry.
    """
    current = caller.current()
    values = {
        "kind": redaction.text(kind, max_length=60),
        "outcome": outcome,
        "actor": redaction.text(current.name, max_length=200),
        "user": current.user,
        "address": redaction.text(current.address, max_length=64),
        "request": redaction.text(current.request, max_length=100),
        "subject": redaction.text(subject, max_length=200),
        "before": None if before is None else redaction.document(before),
        "after": None if after is None else redaction.document(after),
        "data": redaction.document(data or {}),
    }
    with connection.cursor() as cursor:
        cursor.execute(statements.read("fleet", "audit_record"), values)
