"""Calls `fleet_mission`, and the documented keys of its JSON documents."""

from __future__ import annotations

from tests.support.console import CommandResult, manage

SUMMARY = {"id", "name", "objective", "state", "reason", "origin", "schedule", "sorties", "created_at",
           "finished_at", "elapsed_s"}  # fmt: skip

ITEM = {
    "id", "key", "agent_type", "state", "attempt", "tries", "needs", "waits_for", "ready_at", "started_at", "finished_at",
    "progress", "note", "result", "error", "tolerated", "status", "wake_at", "changed_at", "elapsed_s",
    "waits_on", "change",
}  # fmt: skip


def fleet_mission(*arguments: str) -> CommandResult:
    return manage("fleet_mission", *arguments)
