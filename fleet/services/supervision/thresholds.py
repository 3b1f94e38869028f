"""Detects when a measured value exceeds its limit and when it returns to normal; each crossing is reported once."""

from __future__ import annotations

from dataclasses import dataclass, field

from fleet import humanise
from fleet.services.supervision.service import AlertLimits

CONSECUTIVE = 2  # measurements in a row beyond the limit, so that a single slow answer is not reported


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    kind: str  # the kind of event
    message: str  # a sentence without its subject, the service
    value: float
    limit: float


@dataclass(slots=True)
class Thresholds:
    """Compares the values of one service with its limits. Each method returns a crossing, or None if there is none."""

    limits: AlertLimits
    _exceeded: dict[str, int] = field(default_factory=dict)  # measurements in a row beyond the limit, by kind

    def response(self, seconds: float) -> Crossing | None:
        description = f"takes {humanise.duration(seconds)} to answer"
        return self._compare("service.slow", description, seconds, self.limits.response_s, CONSECUTIVE)

    def memory(self, size: int) -> Crossing | None:
        description = f"uses {size / 1e6:,.0f} MB of memory"
        return self._compare("service.large", description, size, self.limits.memory_bytes, CONSECUTIVE)

    def restarts(self, count: int) -> Crossing | None:
        description = f"was restarted {count} times"
        return self._compare("service.restarts", description, count, self.limits.restarts, 1)

    def _compare(
        self, kind: str, description: str, value: float, limit: float | None, patience: int
    ) -> Crossing | None:
        if limit is None:
            return None
        exceeded = self._exceeded.get(kind, 0)
        if value > limit:
            self._exceeded[kind] = exceeded + 1
            if exceeded + 1 == patience:
                return Crossing(kind=kind, message=f"{description}.", value=value, limit=limit)
            return None
        self._exceeded[kind] = 0
        if exceeded >= patience:
            return Crossing(
                kind="service.normal", message=f"is normal again: it {description}.", value=value, limit=limit
            )
        return None
