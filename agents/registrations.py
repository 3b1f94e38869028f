"""Registers the metrics of agents, and what a restore does with their rows and those of nodes, with the layer below."""

from agents import metrics  # noqa: F401
from fleet.backup import hooks

hooks.register_after_restore("agents", "end_restored")
hooks.register_after_restore("agents", "leave_restored")
