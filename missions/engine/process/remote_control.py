"""Celery's remote control of agents, limited to the questions that Flower and other agents ask.

Otherwise anyone who can write to Redis could end agents or read their settings, which contain the password of Redis.
Flower would show those settings to every admin. Orders to agents are rows in Postgres (agents/operations/orders.py).
"""

from __future__ import annotations

from typing import Any

from celery.worker import control
from celery.worker.control import Panel
from kombu import matcher

QUESTIONS = {"ping", "stats", "active_queues", "registered", "scheduled", "active", "reserved", "revoked"}
ANNOUNCEMENTS = {"hello", "heartbeat", "enable_events", "election"}  # that agents and Flower send by themselves
PATTERNS = ("glob", "pcre")  # all kinds that kombu knows


def restrict() -> None:
    """Refuse other commands, and all that select agents by a pattern; leave the address of Redis out of the answers.

    Applies to this process, and may be called once.
    """
    for name in Panel.data.keys() - QUESTIONS - ANNOUNCEMENTS:
        Panel.data[name] = _refuse
    Panel.data["stats"] = _stats
    # Celery lets a command select its recipients by a pattern, which nothing in the fleet does. Matching a regular
    # expression can take forever, and blocks all threads of the agent meanwhile.
    for kind in PATTERNS:
        matcher.unregister(kind)


def _stats(state: Any, **arguments: Any) -> dict[str, Any]:
    """Celery's statistics, with no more about the broker than its kind.

    The address of a Unix socket and the options of Sentinel contain passwords; Celery removes only that of a server.
    """
    answer: dict[str, Any] = control.stats(state)  # type: ignore[attr-defined]  # not in the stubs
    for part in (answer, answer.get("consumer")):
        if isinstance(part, dict) and isinstance(part.get("broker"), dict):
            part["broker"] = {"transport": part["broker"].get("transport")}
    return answer


def _refuse(state: Any, **arguments: Any) -> dict[str, str]:
    return {"error": "Agents of the fleet do not accept this command."}
