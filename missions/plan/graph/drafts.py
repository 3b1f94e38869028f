"""A sortie of the plan before its matrix is expanded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from missions.plan.problems import Path
from missions.plan.specs import Retry
from missions.plan.values import Json


@dataclass(slots=True, kw_only=True)
class Draft:
    """A sortie as the plan writes it, with its defaults. The fields from `keys` on are set by later steps."""

    name: str
    path: Path
    data: Mapping[str, Any]
    driver: str
    combinations: list[dict[str, Json]]
    timeout_s: float | None
    silence_s: float | None
    alert_silence_s: float | None
    retry: Retry
    run_at: datetime | None
    matrix_complete: bool  # no invalid part of its matrix was left out
    keys: tuple[str, ...] = ()  # one for each combination
    key_set: frozenset[str] = frozenset()
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)  # need -> keys of the sorties that it stands for
    matrix_needs: frozenset[str] = frozenset()  # needs that stand for a whole matrix
    needed_names: tuple[str, ...] = ()  # of other drafts
