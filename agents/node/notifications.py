"""Waits until a node has new orders (NOTIFY)."""

from __future__ import annotations

import logging
import time
from typing import Any
from uuid import UUID

import psycopg

from agents import operations
from fleet import postgres
from fleet.postgres import parameters

log = logging.getLogger("fleet.node")


class Notifications:
    """The notifications for one node, on a separate connection. Each ends the wait at once."""

    def __init__(self, node: UUID) -> None:
        self._node = node
        self._connection: psycopg.Connection[Any] | None = None

    def wait(self, seconds: float) -> bool:
        """Wait at most this long. Returns whether a notification for the node has arrived."""
        try:
            if self._connection is None:
                self._connection = _connect()
            return any(
                notice.payload == str(self._node) for notice in self._connection.notifies(timeout=seconds, stop_after=1)
            )
        except psycopg.Error as error:
            log.warning("cannot listen for orders: %s", str(error).strip())
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            time.sleep(seconds)
            return False


def _connect() -> psycopg.Connection[Any]:
    connection: psycopg.Connection[Any] = postgres.connect(
        **parameters.unpooled(application_name="node"), autocommit=True
    )
    connection.execute(f"LISTEN {operations.CHANNEL}")
    return connection
