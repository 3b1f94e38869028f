"""Hints: Celery messages that say "type X has work", sent after a commit.

Nothing depends on hints: a lost, duplicate or late one costs only time. A background thread publishes them with short
timeouts, so that a broker that is down delays no caller. The control loop sends hints again for sorties that stay
queued.

The publisher uses the anonymous exchange, which needs no binding in Redis, so hints still arrive after a FLUSHALL.

Hints do not expire, because expiry would compare the clocks of two hosts, and an old hint does no harm. Instead, each
type's queue keeps only its newest MAX_KEPT hints.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from celery import Celery

from fleet import ids
from fleet.celery import app as fleet_app

log = logging.getLogger("fleet.hints")

TASK_NAME = "missions.fly"
SortiesByType = Mapping[str, Sequence[UUID]]  # agent type -> the first of its sorties that became queued
MAX_AT_ONCE = 8  # hints per type: an agent that finds more than it can take wakes its other slots itself
MAX_KEPT = 64  # hints in a type's queue: at most this many stale ones make an agent claim in vain


class HintPublisher(threading.Thread):
    """Publishes hints in the background. `send` returns at once; hints that accumulate go out as one batch per type."""

    def __init__(self, app: Celery) -> None:
        super().__init__(name="hint-publisher", daemon=True)
        self.app = app
        self._queued: Counter[str] = Counter()  # agent type -> sorties to send hints for
        self._sorties: dict[str, list[UUID]] = {}
        self._ready = threading.Condition()
        self._stopping = False
        self._producer: Any = None

    def send(self, queued: Mapping[str, int], sorties: SortiesByType | None = None) -> None:
        """Send hints for this many queued sorties of each type. `sorties`: their ids, which Flower displays."""
        if queued:
            with self._ready:
                self._queued.update(queued)
                for agent_type, added in (sorties or {}).items():
                    ids_to_send = self._sorties.setdefault(agent_type, [])
                    ids_to_send.extend(added[: MAX_AT_ONCE - len(ids_to_send)])
                self._ready.notify()

    def stop(self, *, within_s: float = 2.0) -> None:
        """Send the remaining hints, for at most `within_s` seconds; the control loop repeats those that are lost."""
        with self._ready:
            self._stopping = True
            self._ready.notify()
        self.join(within_s)

    def run(self) -> None:
        while True:
            with self._ready:
                while not self._queued and not self._stopping:
                    self._ready.wait()
                if not self._queued:
                    return
                queued, self._queued = self._queued, Counter()
                sorties, self._sorties = self._sorties, {}
            if not self._publish(queued, sorties):
                self._publish(queued, sorties)

    def _publish(self, queued: Mapping[str, int], sorties_by_type: SortiesByType) -> bool:
        """Publish hints. False if a retry may help: the connection was not new, so the broker may have closed it.

        Nothing is lost on a failure: the sorties are queued in Postgres, and the control loop sends hints again.
        """
        fresh = self._producer is None
        try:
            self._producer = self._producer or self._open()
            for agent_type, count in queued.items():
                sorties, queue = sorties_by_type.get(agent_type, ()), f"agent.{agent_type}"
                for number in range(min(count, MAX_AT_ONCE)):
                    self.app.send_task(
                        TASK_NAME,
                        kwargs={"sortie": ids.encode(ids.SORTIE, sorties[number])} if number < len(sorties) else None,
                        queue=queue,
                        producer=self._producer,
                        retry=False,
                    )
                with self._producer.channel.conn_or_acquire() as redis:
                    redis.ltrim(queue, 0, MAX_KEPT - 1)  # new hints are pushed in front and taken from the end
        except Exception as error:
            self._producer = None
            log.log(logging.WARNING if fresh else logging.INFO, "a hint could not be published: %s", error)
            return fresh
        return True

    def _open(self) -> Any:
        connection = self.app.connection_for_write()
        return self.app.amqp.Producer(connection.channel())


_publisher: HintPublisher | None = None
_start_lock = threading.Lock()


def send(queued: Mapping[str, int], sorties: SortiesByType | None = None) -> None:
    """Send hints from a process without a `HintPublisher`: one that launches, resumes or retries something.

    The first call starts a publisher, which keeps its connection for later hints and is stopped when the process exits.
    """
    global _publisher
    if not queued:
        return
    with _start_lock:
        if _publisher is None or not _publisher.is_alive():  # threads do not survive a fork
            _publisher = HintPublisher(fleet_app)
            _publisher.start()
            atexit.register(_publisher.stop)
    _publisher.send(queued, sorties)
