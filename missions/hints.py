"""Hints: "type X has work", sent over Celery after a commit.

A hint is never the truth: lost, doubled or late ones cost time only. It is published from a thread of its own with
short timeouts, so that a broker that is down holds up nobody; the control loop hints again whatever stays queued.

The publisher uses the anonymous exchange, which needs no binding in Redis: a FLUSHALL takes nothing that the next
hint would miss.

Hints do not expire: that would be judged by the clocks of two hosts, and an old one does no harm. What nobody takes is
bounded instead: of a type's hints the last KEPT stay.
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

FLY = "missions.fly"
Named = Mapping[str, Sequence[UUID]]  # agent type -> sorties of it that became queued, some of them
MOST = 8  # hints at once for one type: an agent that finds more than it can take wakes its other slots itself
KEPT = 64  # in a type's queue: one to whom they come late finds out in as many claims that there is nothing


class Hinter(threading.Thread):
    """Publishes in the background. `ring` returns at once; hints for one type that pile up are sent as one batch."""

    def __init__(self, app: Celery) -> None:
        super().__init__(name="hinter", daemon=True)
        self.app = app
        self._wanted: Counter[str] = Counter()
        self._named: dict[str, list[UUID]] = {}
        self._ready = threading.Condition()
        self._stopping = False
        self._producer: Any = None

    def ring(self, freed: Mapping[str, int], named: Named | None = None) -> None:
        """`named`: sorties that the hints are sent for, as a remark for whoever looks at them in Flower."""
        if freed:
            with self._ready:
                self._wanted.update(freed)
                for agent_type, sorties in (named or {}).items():
                    kept = self._named.setdefault(agent_type, [])
                    kept.extend(sorties[: MOST - len(kept)])
                self._ready.notify()

    def stop(self, *, within_s: float = 2.0) -> None:
        """Send what is left, for as long as this; what the broker has not taken by then is hinted by the control loop."""
        with self._ready:
            self._stopping = True
            self._ready.notify()
        self.join(within_s)

    def run(self) -> None:
        while True:
            with self._ready:
                while not self._wanted and not self._stopping:
                    self._ready.wait()
                if not self._wanted:
                    return
                wanted, self._wanted = self._wanted, Counter()
                named, self._named = self._named, {}
            if not self._send(wanted, named):
                self._send(wanted, named)

    def _send(self, wanted: Mapping[str, int], named: Named) -> bool:
        """False where a second try may help: the connection was an old one, which the broker may have closed meanwhile.
        What the broker does not take is queued in Postgres, and will be hinted again."""
        fresh = self._producer is None
        try:
            self._producer = self._producer or self._open()
            for agent_type, count in wanted.items():
                sorties, queue = named.get(agent_type, ()), f"agent.{agent_type}"
                for number in range(min(count, MOST)):
                    self.app.send_task(
                        FLY,
                        kwargs={"sortie": ids.encode(ids.SORTIE, sorties[number])} if number < len(sorties) else None,
                        queue=queue,
                        producer=self._producer,
                        retry=False,
                    )
                with self._producer.channel.conn_or_acquire() as redis:
                    redis.ltrim(queue, 0, KEPT - 1)  # new ones are put before these, and taken from behind
        except Exception as fault:
            self._producer = None
            log.log(logging.WARNING if fresh else logging.INFO, "the broker did not take a hint: %s", fault)
            return fresh
        return True

    def _open(self) -> Any:
        connection = self.app.connection_for_write()
        return self.app.amqp.Producer(connection.channel())


_hinter: Hinter | None = None
_starting = threading.Lock()


def ring(freed: Mapping[str, int], named: Named | None = None) -> None:
    """Hint from a process that has no hinter of its own: one that launches, resumes or retries something.

    Its hinter starts with the first hint, keeps its connection for the next, and gets a moment at the process's end.
    """
    global _hinter
    if not freed:
        return
    with _starting:
        if _hinter is None or not _hinter.is_alive():  # a fork takes no threads along
            _hinter = Hinter(fleet_app)
            _hinter.start()
            atexit.register(_hinter.stop)
    _hinter.ring(freed, named)
