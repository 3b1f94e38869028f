"""Load generators for the API, with an open or a closed loop: threads with one connection each."""

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

from bench.percentiles import percentile

TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Request:
    """One request; results are grouped by `kind`."""

    kind: str
    path: str
    key: str
    body: Any = None


@dataclass
class LoadResults:
    """The results of a load test."""

    latencies: dict[str, list[float]] = field(
        default_factory=dict
    )  # by kind: seconds since successful requests were due
    statuses: Counter[str] = field(default_factory=Counter)  # responses by status or connection error
    launched: list[str] = field(default_factory=list)  # ids of missions whose launch was accepted
    elapsed_s: float = 0.0

    def ms(self, kind: str, share: float) -> float:
        return percentile(self.latencies.get(kind, ()), share) * 1_000

    @property
    def good_per_s(self) -> float:
        return sum(map(len, self.latencies.values())) / self.elapsed_s


class Client:
    """A client with one persistent connection."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)

    def send(self, request: Request) -> tuple[str, bytes]:
        """The status (or the name of a connection error) and the body."""
        headers = {"Authorization": f"Bearer {request.key}"}
        body = None
        if request.body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(request.body)
        try:
            self._connection.request(
                "POST" if request.body is not None else "GET", f"/api/v1{request.path}", body, headers
            )
            response = self._connection.getresponse()
            return str(response.status), response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return type(error).__name__, b""


def _drive(port: int, due: Iterable[tuple[float | None, Request]], *, connections: int) -> LoadResults:
    """Send each request when it is due, or as soon as a connection is free after that.

    Latencies count from the time when a request was due. One without a time is due when a connection is free.
    """
    results, lock, queue = LoadResults(), threading.Lock(), iter(due)
    began = time.perf_counter() + 0.1

    def work() -> None:
        client = Client(port)
        while True:
            with lock:
                at, request = next(queue, (None, None))
            if request is None:
                return
            start = time.perf_counter() if at is None else began + at
            if (wait := start - time.perf_counter()) > 0:
                time.sleep(wait)
            status, body = client.send(request)
            elapsed = time.perf_counter() - start
            with lock:
                results.statuses[status] += 1
                if status in {"200", "201"}:
                    results.latencies.setdefault(request.kind, []).append(elapsed)
                if status == "201":
                    results.launched.append(json.loads(body)["id"])

    threads = [threading.Thread(target=work) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.elapsed_s = time.perf_counter() - began
    return results


def open_loop(
    port: int, streams: Sequence[tuple[float, Callable[[], Request]]], *, seconds: float, connections: int
) -> LoadResults:
    """Send requests at random times (Poisson) with the rate of each stream, whether or not the server keeps up."""
    generator = random.Random(1)
    due: list[tuple[float, Request]] = []
    for rate, make in streams:
        at = generator.expovariate(rate)
        while at < seconds:
            due.append((at, make()))
            at += generator.expovariate(rate)
    due.sort(key=lambda entry: entry[0])
    return _drive(port, due, connections=connections)


def closed_loop(port: int, make: Callable[[], Request], *, requests: int, connections: int) -> LoadResults:
    """Each connection sends its next request once it has received the previous response."""
    return _drive(port, ((None, make()) for _ in range(requests)), connections=connections)
