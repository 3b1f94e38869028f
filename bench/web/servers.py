"""`python -m bench.web.servers [--packages FOLDER] [--quick]`: serve the site with our server, granian and gunicorn.

The other two are not requirements of the fleet. Install them into a folder of their own:
`pip install --no-deps --target FOLDER granian gunicorn uvicorn-worker`.

All serve the same application with the same number of processes, alternately (A B C A B C). Prints a table of medians,
and which slow clients each server disconnects.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from bench.web.api import CONNECTIONS, FEW, LAUNCHES_PER_S, READS_PER_S, Api, Site, fleet_web
from bench.web.clients import closed_loop, open_loop
from bench.workloads.contenders import cpu_s
from tests.support.postgres import cluster

WORKERS = 2
TIMEOUT_S = 1.0  # FLEET_HTTP_TIMEOUT_S, and the equivalent of the others
BURST = 200  # connections
WARM_UP = 300  # reads
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
LARGE = b"GET /static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"

Command = Callable[[int], list[str]]


def granian(port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "granian", "--interface", "asginl", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", str(WORKERS), "--backpressure", "200", "--loop", "asyncio", "--log-level", "error"),
        *("--http1-header-read-timeout", str(int(TIMEOUT_S * 1_000)), "bench.web.site:application"),
    ]


def gunicorn(port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "gunicorn", "--preload", "--bind", f"127.0.0.1:{port}", "--workers", str(WORKERS)),
        *("--worker-class", "uvicorn_worker.UvicornWorker", "--keep-alive", str(int(TIMEOUT_S))),
        *("--log-level", "error", "bench.web.site:application"),
    ]


SERVERS: dict[str, Command] = {"fleet.web": fleet_web, "granian": granian, "gunicorn": gunicorn}


def measure(api: Api, site: Site, *, seconds: float) -> dict[str, float]:
    """The measurements of `make bench` that a server can change. docs/bench.md describes them."""
    closed_loop(site.port, api.read, requests=WARM_UP, connections=CONNECTIONS)
    mixed = open_loop(
        site.port, [(READS_PER_S, api.read), (LAUNCHES_PER_S, api.launch)], seconds=seconds, connections=CONNECTIONS
    )
    reads, before = int(50 * seconds), cpu_s([site.pid])
    closed = closed_loop(site.port, api.read, requests=reads, connections=CONNECTIONS)
    spent_s = cpu_s([site.pid]) - before
    api.sites.append(site)
    try:
        live = api.delivery(listeners=100, events=40, every_s=0.05)
    finally:
        api.sites.remove(site)
    return {
        "read_p50_ms": mixed.ms("read", 0.5),
        "read_p95_ms": mixed.ms("read", 0.95),
        "launch_p95_ms": mixed.ms("launch", 0.95),
        "failed": float(sum(mixed.statuses.values()) - mixed.statuses["200"] - mixed.statuses["201"]),
        "closed_reads_per_s": closed.good_per_s,
        "closed_p95_ms": closed.ms("read", 0.95),
        "cpu_ms_a_read": spent_s * 1_000 / reads,
        "live_p95_ms": live["p95_ms"],
        "memory_mb": sum(process.memory_full_info().pss for process in _tree(site)) / 1e6,
        "burst_share_of_one_process": burst_share(site),
    }


def slow_clients(site: Site) -> dict[str, bool]:
    """Which slow clients the server disconnects within four times the timeout."""
    return {
        "ends slow heads": _ends_slow_head(site),
        "ends silent connections": _is_ended_by(site, b""),
        "ends clients that read nothing": _is_ended_by(site, LARGE * 20),
    }


def burst_share(site: Site) -> float:
    """The share of a burst of connections that the busiest process gets; 0.5 is even."""
    with contextlib.ExitStack() as stack:
        for _ in range(BURST):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", site.port))  # all at once, without waiting for the server
        time.sleep(TIMEOUT_S / 2)
        owners = Counter(
            process.pid
            for process in _tree(site)
            for connection in process.net_connections("tcp")
            if connection.laddr.port == site.port and connection.raddr
        )
    return max(owners.values()) / sum(owners.values()) if owners else float("nan")


def _tree(site: Site) -> list[psutil.Process]:
    first = psutil.Process(site.pid)
    return [first, *first.children(recursive=True)]


def _connect(site: Site) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.settimeout(4 * TIMEOUT_S)
    client.connect(("127.0.0.1", site.port))
    return client


def _is_ended_by(site: Site, request: bytes) -> bool:
    """Whether the server ends a connection whose client sends this, then nothing more, and reads nothing."""
    with _connect(site) as client:
        client.sendall(request)
        end = time.monotonic() + 4 * TIMEOUT_S
        while time.monotonic() < end:
            time.sleep(0.1)
            if not any(
                connection.raddr and connection.raddr.port == client.getsockname()[1]
                for process in _tree(site)
                for connection in process.net_connections("tcp")
            ):
                return True
    return False


def _ends_slow_head(site: Site) -> bool:
    with _connect(site) as client:
        return _is_refused(client, HEALTH * 40)


def _is_refused(client: socket.socket, text: bytes) -> bool:
    """Send a byte at a time. Returns whether the server ends the connection, with or without a response."""
    end = time.monotonic() + 4 * TIMEOUT_S
    client.setblocking(False)
    for byte in text:
        if time.monotonic() > end:
            return False
        with contextlib.suppress(BlockingIOError):
            try:
                client.send(bytes([byte]))
                client.recv(4_096)
            except (ConnectionResetError, BrokenPipeError):
                return True
            return True  # a response, or the end
        time.sleep(TIMEOUT_S / 10)
    return False


@contextmanager
def database() -> Iterator[Api]:
    services = cluster.temporary(durable=True)
    try:
        services.start()
        api = Api(services)
        api.start()
        try:
            api.add_history(1, FEW)
            yield api
        finally:
            api.stop()
    finally:
        cluster.remove(services)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.web.servers", description=__doc__)
    parser.add_argument("--packages", metavar="FOLDER", help="where granian, gunicorn and uvicorn-worker are installed")
    parser.add_argument("--quick", action="store_true", help="one round of 5 s instead of three of 10 s")
    options = parser.parse_args()
    names = list(SERVERS) if options.packages else ["fleet.web"]
    env = {"FLEET_WEB_WORKERS": str(WORKERS), "FLEET_HTTP_TIMEOUT_S": str(TIMEOUT_S)}
    if options.packages:
        env["PYTHONPATH"] = os.path.abspath(options.packages)
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    disconnects: dict[str, dict[str, bool]] = {}
    with database() as api:
        for turn in range(1 if options.quick else 3):
            for name in names:
                site = Site({**api.env, **env}, SERVERS[name])
                try:
                    results[name].append(measure(api, site, seconds=5 if options.quick else 10))
                    if not turn:
                        disconnects[name] = slow_clients(site)
                finally:
                    site.stop()
    for measure_name in results[names[0]][0]:
        medians = (f"{statistics.median(turn[measure_name] for turn in results[name]):12,.2f}" for name in names)
        sys.stdout.write(f"{measure_name:<32}{''.join(medians)}\n")
    for check in disconnects[names[0]]:
        cells = (f"{'yes' if disconnects[name][check] else 'no':>12}" for name in names)
        sys.stdout.write(f"{check:<32}{''.join(cells)}\n")
    sys.stdout.write(f"{'':<32}{''.join(f'{name:>12}' for name in names)}\n")


if __name__ == "__main__":
    main()
