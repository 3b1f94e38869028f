"""What a recovery plan needs to know of a sortie: as it is now, and as it is in a checkpoint."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

_NOTHING_TO_RESUME = '"resume":null}'  # the end of most kept lines; parsing all of them would take long


class LiveSortie(NamedTuple):
    """The current row of a sortie: the line of its state, and its exact state."""

    line: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedSortie:
    """The parts of a sortie that a plan needs, parsed from its two lines."""

    line: str
    state: str  # pending, due, or a final state
    type: str
    call: str | None
    resumable: bool  # whether its driver saved data from which the next attempt continues, or it has uncommitted work
    artifacts: tuple[str, ...]  # digests
    uncommitted: bool  # whether its next attempt starts with uncommitted work

    @classmethod
    def parse(cls, line: str, kept_line: str) -> ParsedSortie:
        state: dict[str, Any] = json.loads(line)
        resume, uncommitted = continues_from(kept_line)
        return cls(
            line=line,
            state=state["state"],
            type=state["type"],
            call=state["spec"].get("call"),
            resumable=resume is not None or uncommitted is not None,
            artifacts=tuple(artifact["digest"] for artifact in state["artifacts"]),
            uncommitted=uncommitted is not None,
        )

    @property
    def final(self) -> bool:
        return self.state not in ("pending", "due")


def continues_from(kept_line: str) -> tuple[Any, Any]:
    """What the next attempt of a sortie continues from: the data that its driver saved, and its uncommitted work."""
    if kept_line.endswith(_NOTHING_TO_RESUME):
        return None, None
    kept = json.loads(kept_line)
    work = kept.get("workspace", {}).get("uncommitted") or {}
    return kept.get("resume"), work.get("commit") if work.get("commit") != work.get("base") else None
