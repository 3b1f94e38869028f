"""Celery's Redis transport without its bookkeeping of unacknowledged messages.

Kombu keeps each delivered message in two Redis structures until it is acknowledged and redelivers it after a
visibility timeout. Here a message is a hint that may be lost or doubled: what it points at is a row in Postgres,
and rows that nobody claims are hinted again. So that bookkeeping, which costs nearly half of a worker's main
process, is left out; prefetch is still counted, in memory.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import redis, virtual


class QoS(virtual.QoS):
    """Counts what was delivered and not yet acknowledged, and never puts it back."""

    restore_at_shutdown = False

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to restore: the rows are the truth."""

    def restore_unacked_once(self, stderr: Any = None) -> None:
        if self._delivered is not None:
            self._delivered.clear()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        self.ack(delivery_tag)


class Channel(redis.Channel):
    QoS = QoS  # type: ignore[assignment]  # of virtual.QoS, as kombu asks; not of Redis's


class Transport(redis.Transport):
    Channel = Channel
