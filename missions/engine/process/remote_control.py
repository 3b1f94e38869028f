"""Celery's remote control of agents, limited to the questions that Flower and other agents ask.

Otherwise anyone who can write to Redis could end agents or read their settings, which contain the password of Redis.
Flower would show those settings to every admin. Orders to agents are rows in Postgres (agents/operations/ordering.py).
"""

from __future__ import annotations

from typing import Any

from celery.worker.control import Panel

ALLOWED = frozenset(
    {
        *("ping", "stats", "active_queues", "registered", "scheduled", "active", "reserved", "revoked"),
        *("hello", "heartbeat", "enable_events", "election"),  # sent by agents and Flower themselves
    }
)


def restrict() -> None:
    """Refuse all other commands in this process."""
    for name in Panel.data.keys() - ALLOWED:
        Panel.data[name] = _refuse


def _refuse(state: Any, **arguments: Any) -> dict[str, str]:
    return {"error": "Agents of the fleet do not accept this command."}
