"""A connection to Postgres that detects a halted server.

TCP detects a host or a route that is down (`tcp_user_timeout` in the settings). It does not detect a server that is
halted while its kernel still acknowledges packets, such as by SIGSTOP or a stuck proxy: a client would wait until the
server resumes. So a client that has waited for FLEET_POSTGRES_TIMEOUT_S opens a second connection. If that succeeds,
the statement is merely slow and may take as long as it needs; if it times out, the first connection is broken.
PgBouncer accepts connections even if its server is halted, so behind it the client also tries the server itself.
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

INTERVAL_S = 0.1  # psycopg's default: how often a waiting thread checks for signals

T = TypeVar("T")


class Connection(psycopg.Connection[Row]):
    """Raises OperationalError if the server answers neither a statement nor a new connection in time.

    FLEET_POSTGRES_TIMEOUT_S is the time for each of the two.
    """

    def wait(self, gen: PQGen[T], interval: float = INTERVAL_S, timeout: float | None = None) -> T:
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        started_at = time.monotonic()
        while True:
            try:
                return super().wait(gen, interval, settings.FLEET_POSTGRES_TIMEOUT_S)
            except errors._WaitTimeout:
                if not self._server_responds():
                    self.pgconn.finish()  # marks it as broken rather than closed, so that its user replaces it
                    waited_s = time.monotonic() - started_at
                    raise psycopg.OperationalError(
                        f"no answer for {humanise.duration(waited_s)}, and it accepts no new connection"
                    ) from None

    def _server_responds(self) -> bool:
        """Whether the server accepts a new connection. Behind a pooler, Postgres itself must accept one too."""
        parameters: dict[str, Any] = {**self.info.get_parameters(), "password": self.info.password}
        if not _responds(parameters):
            return False
        direct = settings.FLEET_ENDPOINTS.direct
        return direct is None or _responds({**parameters, "host": direct.host, "port": direct.port})


def _responds(parameters: dict[str, Any]) -> bool:
    """Whether a server responds in time. A refusal, as during a shutdown, is a response."""
    try:
        psycopg.connect(**parameters).close()
    except errors.ConnectionTimeout:
        return False
    except psycopg.Error:
        return True
    return True


connect = Connection.connect
