"""Connections, locks, roles and the clock of Postgres, and Django's backend for it (`ENGINE = "fleet.postgres"`).

`connect` opens connections that notice a halted server. `statements` reads SQL files, `locks` lists the advisory locks,
`clock` reads the database's time, `roles` manages the two roles, `pool` and `hot_path` configure connections, and
`retries` repeats queries that failed while Postgres was away.
"""

from fleet.postgres.connections import Connection, connect

__all__ = ["Connection", "connect"]
