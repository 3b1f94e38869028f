"""Waits for Postgres while it does not answer, so that an outage costs no try."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from django.db import connection

from agents.drivers.base import Stop
from fleet.postgres import retries

log = logging.getLogger("fleet.execution")

T = TypeVar("T")


class Stopped(Exception):
    """The attempt was stopped while it waited for Postgres, or between two steps."""


def until_answered(query: Callable[[], T], *, stop: Stop) -> T:
    """Retry until Postgres answers, then return the connection to the pool. Raises Stopped if the attempt must stop."""

    def query_and_close() -> T:
        try:
            return query()
        finally:
            if connection.connection is not None:  # `close` alone costs a tenth of a sortie that reads nothing
                connection.close()

    try:
        return retries.retry(
            query_and_close,
            on_failure=lambda error, _: log.warning("Postgres does not answer (%s); retrying", str(error).strip()),
            stop=lambda: stop.reason is not None,
        )
    except retries.TRANSIENT as error:
        raise Stopped from error
