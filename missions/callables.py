"""What plans may call out of the box: the work of the sample mission."""

from __future__ import annotations

from agents import callables

callables.load(
    f"missions.examples.audit.{name}"
    for name in (
        "backend",
        "complexity",
        "documentation",
        "frontend",
        "history",
        "hotspots",
        "inventory",
        "provenance",
        "report",
        "security",
        "testing",
        "upkeep",
    )
)
