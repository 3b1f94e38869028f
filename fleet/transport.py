"""Celery's Redis transport without its bookkeeping of unacknowledged messages.

Kombu keeps each delivered message in two Redis structures until it is acknowledged, and redelivers it after a
visibility timeout. In the fleet a message is a hint that may be lost or duplicated: it points at rows in Postgres, and
rows that nobody claims are hinted again. The bookkeeping costs nearly half of the processor time of a worker's main
process, so it is left out. Prefetch is still counted, in memory.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import redis, virtual


class QoS(virtual.QoS):
    """Counts delivered, unacknowledged messages in memory, and never restores them."""

    restore_at_shutdown = False

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the rows are the truth."""

    def restore_unacked_once(self, stderr: Any = None) -> None:
        if self._delivered is not None:
            self._delivered.clear()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        self.ack(delivery_tag)


class Channel(redis.Channel):
    QoS = QoS  # type: ignore[assignment]  # of virtual.QoS, as kombu asks; not of Redis's


class Transport(redis.Transport):
    Channel = Channel
