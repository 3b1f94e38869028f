"""The summary of one Celery task: the outcomes of its sorties, for display in Flower."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from fleet import ids
from missions.engine.settlement.settling import Settlement

MAX_IDS = 5  # sorties listed by id
TOLERATED = "tolerated"  # failed, which the plan allows (`allow_failure`)
WORDS = {
    "succeeded": "succeeded",
    "failed": "failed",
    TOLERATED: TOLERATED,
    "waiting": "to be retried",
    "cancelled": "cancelled",
}


@dataclass(slots=True)
class TaskSummary:
    """The number of sorties per state. Its size does not grow with their number."""

    states: Counter[str] = field(default_factory=Counter)
    first_sorties: list[str] = field(default_factory=list)  # ids
    first_failures: list[str] = field(default_factory=list)  # ids

    def add(self, settlement: Settlement, *, tolerated: bool = False) -> None:
        """Add an outcome. `tolerated`: the plan tolerates a failure of this sortie."""
        failed = settlement.state == "failed" and not tolerated
        self.states[TOLERATED if settlement.state == "failed" and tolerated else settlement.state] += 1
        if len(self.first_sorties) < MAX_IDS:
            self.first_sorties.append(ids.encode(ids.SORTIE, settlement.id))
        if failed and len(self.first_failures) < MAX_IDS:
            self.first_failures.append(ids.encode(ids.SORTIE, settlement.id))

    @property
    def failed(self) -> int:
        """How many sorties failed for good, without the tolerated ones."""
        return self.states["failed"]

    def __str__(self) -> str:
        """`ran 5: 4 succeeded, 1 failed (srt_…)`"""
        if not self.states:
            return "ran nothing: other agents had claimed it"
        counts = ", ".join(f"{self.states[state]} {words}" for state, words in WORDS.items() if self.states[state])
        listed, total = (self.first_failures, self.failed) if self.failed else (self.first_sorties, self.states.total())
        more = f" and {total - len(listed)} more" if total > len(listed) else ""
        return f"ran {self.states.total()}: {counts} ({', '.join(listed)}{more})"
