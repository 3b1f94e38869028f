"""When a measured value leaves what is normal, and when it comes back: one event each, however long it lasts."""

from __future__ import annotations

from dataclasses import dataclass, field

from fleet import humanise
from fleet.services.supervision.service import Limits

PATIENCE = 2  # measurements in a row, so that one slow answer is no event


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    kind: str
    message: str
    value: float
    limit: float


@dataclass(slots=True)
class Thresholds:
    """The limits of one service and how its values stand to them."""

    service: str
    limits: Limits
    _over: dict[str, int] = field(default_factory=dict)

    def response(self, seconds: float) -> Crossing | None:
        said = f"takes {humanise.duration(seconds)} to answer"
        return self._judge("service.slow", said, seconds, self.limits.response_s, PATIENCE)

    def memory(self, size: int) -> Crossing | None:
        said = f"uses {size / 1e6:,.0f} MB of memory"
        return self._judge("service.large", said, size, self.limits.memory_bytes, PATIENCE)

    def restarts(self, count: int) -> Crossing | None:
        said = f"was restarted {count} times"
        return self._judge("service.restarts", said, count, self.limits.restarts, 1)

    def _judge(self, kind: str, said: str, value: float, limit: float | None, patience: int) -> Crossing | None:
        if limit is None:
            return None
        times = self._over.get(kind, 0)
        if value > limit:
            self._over[kind] = times + 1
            if times + 1 == patience:
                return Crossing(kind=kind, message=f"{self.service} {said}.", value=value, limit=limit)
            return None
        self._over[kind] = 0
        if times >= patience:
            return Crossing(
                kind="service.normal", message=f"{self.service} is normal again: it {said}.", value=value, limit=limit
            )
        return None
