"""A connection to Postgres that notices when the server is halted.

TCP notices a host that is gone and a way that swallows everything (`tcp_user_timeout` in the settings). A server that is
stopped while its kernel goes on acknowledging (SIGSTOP, a proxy that holds everything back) it does not notice: whoever has
asked would wait until the server goes on. So whoever has waited for FLEET_ANSWER_S knocks, with a new connection. Where
somebody opens, the statement is a slow one and may take as long as it needs; where nobody does, the connection is broken.
"""

from __future__ import annotations

import time
from typing import Any, TypeVar

import psycopg
from django.conf import settings
from psycopg import errors
from psycopg.abc import PQGen
from psycopg.rows import Row

from fleet import humanise

INTERVAL_S = 0.1  # psycopg's own: how soon it hears a signal

T = TypeVar("T")


class Connection(psycopg.Connection[Row]):
    """OperationalError after twice FLEET_ANSWER_S where the server answers neither here nor elsewhere."""

    def wait(self, gen: PQGen[T], interval: float = INTERVAL_S, timeout: float | None = None) -> T:
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        began = time.monotonic()
        while True:
            try:
                return super().wait(gen, interval, settings.FLEET_ANSWER_S)
            except errors._WaitTimeout:
                if not self._somebody_opens():
                    self.pgconn.finish()  # broken, not closed: whoever keeps it sees that it needs another
                    waited_s = time.monotonic() - began
                    raise psycopg.OperationalError(
                        f"nothing came for {humanise.duration(waited_s)}, and it takes no new connection"
                    ) from None

    def _somebody_opens(self) -> bool:
        """Whoever refuses (too many clients, a shutdown) is there as well, and says here too what is the matter."""
        same: dict[str, Any] = {**self.info.get_parameters(), "password": self.info.password}
        try:
            psycopg.connect(**same).close()
        except errors.ConnectionTimeout:
            return False
        except psycopg.Error:
            return True
        return True


connect = Connection.connect
