"""Registers the audit's callables if the tools that they need are installed (requirements.txt in this folder)."""

from __future__ import annotations

from importlib.util import find_spec

from agents import callables

TOOLS = ("bandit", "bs4", "detect_secrets", "lizard", "markdown_it", "ruff", "tinycss2", "tree_sitter", "vulture")
CHECKS = (
    "backend",
    "complexity",
    "documentation",
    "frontend",
    "history",
    "hotspots",
    "inventory",
    "javascript",
    "provenance",
    "security",
    "testing",
    "upkeep",
)

if all(find_spec(tool) for tool in TOOLS):
    callables.load(f"examples.repo_audit.checks.{name}" for name in CHECKS)
    callables.load(["examples.repo_audit.reporting.report"])
