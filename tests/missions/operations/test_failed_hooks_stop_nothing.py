"""A hook that fails before a cancel or a cleanup is logged, and the others run all the same."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Sequence
from uuid import UUID

import pytest
from django.db import DatabaseError

from fleet import errors, ids
from missions.operations.hooks import Hooks


def records(error: Exception, caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The log records of a hook that raises `error`. The next hook must run."""
    calls: list[Sequence[UUID]] = []
    hooks = Hooks("cancel")

    def fail(missions: Sequence[UUID]) -> None:
        raise error

    hooks.register(fail)
    hooks.register(calls.append)
    mission = ids.new()
    with caplog.at_level(logging.WARNING, logger="fleet.missions"):
        hooks.run([mission])
    assert calls == [[mission]]
    return caplog.records


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "before cancel: [Errno 28] No space left on device"),
        (errors.Unavailable("The disk is full."), "before cancel: The disk is full."),
        (
            DatabaseError('could not extend file "base/1": No space left\nHINT:  Check free disk space.\n'),
            'before cancel: could not extend file "base/1": No space left HINT: Check free disk space.',
        ),
    ],
)
def test_an_expected_failure_is_one_line(error: Exception, text: str, caplog: pytest.LogCaptureFixture) -> None:
    (record,) = records(error, caplog)
    assert (record.getMessage(), record.exc_info) == (text, None)


def test_a_defect_has_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    (record,) = records(KeyError("missing"), caplog)
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[0] is KeyError
