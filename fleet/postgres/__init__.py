"""Connections, locks, roles and the clock of Postgres, and Django's backend for it (`ENGINE = "fleet.postgres"`).

`parameters` turns an address into libpq's parameters, and `connect` opens connections that notice a halted server;
`pool` and `hot_path` configure them. `retries` repeats queries that failed while Postgres was away. `statements` reads
SQL files, `locks` lists the advisory locks, `clock` reads the database's time, and `roles` manages the two roles. With
`commit_order`, a reader of a growing table misses no row.
"""

from fleet.postgres.connections import Connection, connect

__all__ = ["Connection", "connect"]
