"""Clients of the API: threads with a connection each, in open loop or in closed loop."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

PATIENCE_S = 30


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, and what kind it counts as."""

    kind: str
    path: str
    key: str
    body: Any = None


@dataclass
class Seen:
    """What clients saw: seconds by kind, from when a request was due, of those that were answered well; and how many were
    answered how. What took place at all is in `made`: the ids of missions that were said to be launched."""

    took: dict[str, list[float]] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    made: list[str] = field(default_factory=list)
    elapsed_s: float = 0.0

    def ms(self, kind: str, share: float) -> float:
        times = sorted(self.took.get(kind, ()))
        return times[min(len(times) - 1, int(len(times) * share))] * 1_000 if times else float("nan")

    @property
    def good_per_s(self) -> float:
        return sum(map(len, self.took.values())) / self.elapsed_s


class Client:
    """One connection that is kept, as those of programs are."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._line = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)

    def send(self, ask: Ask) -> tuple[str, bytes]:
        """The status, or what became of the connection, and the body."""
        headers = {"Authorization": f"Bearer {ask.key}"}
        body = None
        if ask.body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(ask.body)
        try:
            self._line.request("POST" if ask.body is not None else "GET", f"/api/v1{ask.path}", body, headers)
            answer = self._line.getresponse()
            return str(answer.status), answer.read()
        except (OSError, http.client.HTTPException) as fault:
            self._line.close()
            return type(fault).__name__, b""


def _drive(port: int, due: Iterable[tuple[float | None, Ask]], *, connections: int) -> Seen:
    """Send each when it is due, or as soon after as a connection is free; a time is counted from when it was due. What has
    no time is due when a connection is free."""
    seen, lock, queue = Seen(), threading.Lock(), iter(due)
    began = time.perf_counter() + 0.1

    def work() -> None:
        client = Client(port)
        while True:
            with lock:
                at, ask = next(queue, (None, None))
            if ask is None:
                return
            start = time.perf_counter() if at is None else began + at
            if (wait := start - time.perf_counter()) > 0:
                time.sleep(wait)
            status, body = client.send(ask)
            took = time.perf_counter() - start
            with lock:
                seen.answers[status] += 1
                if status in {"200", "201"}:
                    seen.took.setdefault(ask.kind, []).append(took)
                if status == "201":
                    seen.made.append(json.loads(body)["id"])

    threads = [threading.Thread(target=work) for _ in range(connections)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    seen.elapsed_s = time.perf_counter() - began
    return seen


def open_loop(
    port: int, streams: Sequence[tuple[float, Callable[[], Ask]]], *, seconds: float, connections: int
) -> Seen:
    """Requests that come by chance (Poisson), so many a second of each stream, whether the server keeps up or not."""
    chance, due = random.Random(1), []
    for rate, make in streams:
        at = chance.expovariate(rate)
        while at < seconds:
            due.append((at, make()))
            at += chance.expovariate(rate)
    return _drive(port, sorted(due, key=lambda one: one[0]), connections=connections)


def closed_loop(port: int, make: Callable[[], Ask], *, requests: int, connections: int) -> Seen:
    """Each connection sends its next request when it has the answer to the one before."""
    return _drive(port, ((None, make()) for _ in range(requests)), connections=connections)
