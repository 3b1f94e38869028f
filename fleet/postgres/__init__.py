"""Connections to Postgres that do not wait for ever, and Django's backend with them (`ENGINE = "fleet.postgres"`)."""

from fleet.postgres.connections import Connection, connect

__all__ = ["Connection", "connect"]
