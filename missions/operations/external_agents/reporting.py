"""Attempts report progress, output and a value to resume from, with their lease tokens."""

from __future__ import annotations

import time
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from agents.confinement.attempt_limits import RESUME_BYTES
from fleet import errors, values
from fleet.observability.redactor import Redactor
from fleet.postgres import statements
from missions.operations.external_agents import attempt_auth, membership

PIECE_CHARS = 16_000  # of output per row; trimming removes whole rows
ROW_BYTES = 100  # size of a row of output without its text
UNCHANGED: Final = object()  # no value to resume from is sent; None is a value


def progress(
    *, token: str, fraction: float | None = None, note: str = "", output: str = "", resume: Any = UNCHANGED
) -> None:
    """Report progress (a fraction from 0 to 1), a note on the current step, output, and a value to resume from.

    The next attempt gets the last `resume` with its work; with None it starts from scratch. Raises StaleLease if the
    lease is lost; Invalid for the `output` or `resume` of an attempt that one of the fleet's own agents runs, because
    that agent captures what is printed and what is written to FLEET_RESUME.
    """
    attempt = attempt_auth.authenticate(token)
    if not attempt.internal:
        membership.record_heartbeat_and_apply_order(attempt.agent)
    elif output:
        raise errors.Invalid(
            "This attempt's output is what it prints, so it takes no `output`.",
            hint="Print the text, and omit `output`.",
        )
    elif resume is not UNCHANGED:
        raise errors.Invalid(
            "This attempt saves what it needs to resume in a file, so it takes no `resume`.",
            hint="Write the value to FLEET_RESUME, and omit `resume`.",
        )
    redactor = attempt_auth.redactor(attempt, token)
    output, note = redactor.text(output), redactor.text(note)
    if resume is not UNCHANGED:
        resume = _acceptable_resume(resume, redactor)
    with transaction.atomic(), connection.cursor() as cursor:
        if not attempt.internal:
            cursor.execute(
                statements.read("missions.engine.output", "record_activity"),
                {"ids": [attempt.claim.id], "attempts": [attempt.claim.attempt]},
            )
        if output:
            _store_output(cursor, attempt.claim.id, attempt.claim.attempt, output.replace("\x00", "�"))
        if fraction is not None or note:
            cursor.execute(
                statements.read("missions.engine.output", "record_progress"),
                {
                    "ids": [attempt.claim.id],
                    "attempts": [attempt.claim.attempt],
                    "fractions": [None if fraction is None else min(max(fraction, 0.0), 1.0)],
                    "notes": [note.replace("\x00", "�")[:200]],
                },
            )
        if resume is not UNCHANGED:
            cursor.execute(
                statements.read("missions.engine.output", "store_resume"),
                {
                    "ids": [attempt.claim.id],
                    "attempts": [attempt.claim.attempt],
                    "resumes": [values.encode(resume)],
                },
            )


def _acceptable_resume(value: Any, redactor: Redactor) -> Any:
    """The value to resume from, redacted. Raises Invalid if it is not acceptable, or too large before or afterwards."""
    try:
        values.check(value, max_bytes=RESUME_BYTES)
        redacted = redactor.value(value)
        values.check(redacted, max_bytes=RESUME_BYTES)
    except values.Unacceptable as error:
        raise errors.Invalid(
            f"The value to resume from is not accepted: {error}.",
            hint="Send a position, and keep large data elsewhere.",
            pointer="/resume",
        ) from None
    return redacted


def _store_output(cursor: Any, sortie: UUID, attempt: int, text: str) -> None:
    """Store an external attempt's output, within the same bound as the fleet's own (missions/engine/output/buffer.py).

    The fleet's own agents apply the bound in memory; here each request counts what is stored.
    """
    size = max(1, min(PIECE_CHARS, settings.FLEET_OUTPUT_BYTES // 8))
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    cursor.execute(
        statements.read("missions.engine.output", "store_output"),
        {
            "ids": [sortie] * len(pieces),
            "attempts": [attempt] * len(pieces),
            "streams": ["stdout"] * len(pieces),
            "ats": [time.time()] * len(pieces),
            "texts": pieces,
        },
    )
    bound = {"sortie": sortie, "attempt": attempt, "half": settings.FLEET_OUTPUT_BYTES // 2, "row": ROW_BYTES}
    cursor.execute(statements.read("missions.operations.external_agents", "trim_output"), bound)
