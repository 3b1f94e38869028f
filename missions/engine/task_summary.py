"""What one call of an engine has flown, summed up for whoever looks at it in Flower."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from fleet import ids
from missions.engine.settling import Settlement

NAMED = 5  # sorties that are named, at most
WORDS = {"succeeded": "succeeded", "failed": "failed", "waiting": "to be retried", "cancelled": "cancelled"}


@dataclass(slots=True)
class TaskSummary:
    """How many sorties came to which state. It does not grow with their number."""

    states: Counter[str] = field(default_factory=Counter)
    first: list[str] = field(default_factory=list)  # ids of the first sorties
    first_failed: list[str] = field(default_factory=list)

    def add(self, settlement: Settlement) -> None:
        self.states[settlement.state] += 1
        failed = settlement.state == "failed"
        if len(self.first) < NAMED or (failed and len(self.first_failed) < NAMED):
            sortie = ids.encode(ids.SORTIE, settlement.id)
            self.first += [sortie] if len(self.first) < NAMED else []
            self.first_failed += [sortie] if failed and len(self.first_failed) < NAMED else []

    @property
    def failed(self) -> int:
        return self.states["failed"]

    def __str__(self) -> str:
        """`flew 5: 4 succeeded, 1 failed (srt_…)`"""
        if not self.states:
            return "flew nothing: other agents had taken the work"
        counts = ", ".join(f"{self.states[state]} {words}" for state, words in WORDS.items() if self.states[state])
        named, total = (self.first_failed, self.failed) if self.failed else (self.first, self.states.total())
        more = f" and {total - len(named)} more" if total > len(named) else ""
        return f"flew {self.states.total()}: {counts} ({', '.join(named)}{more})"
