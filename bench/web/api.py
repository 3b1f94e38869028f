"""`python -m bench.web.api [--quick]`: measure the API on a database with a history; print the results as JSON.

It runs in a separate process, because its services and settings differ from those of the other measurements.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg

from bench import ROOT
from bench.percentiles import percentile
from bench.web.clients import Client, LoadResults, Request, closed_loop, open_loop
from fleet.config import ports
from tests.support.postgres import cluster

HISTORY = Path(__file__).with_name("history.sql")
FEW, MANY = 1_000, 10_000  # missions, each with ten sorties and a hundred events
USERS = 10
READS_PER_S, LAUNCHES_PER_S, CONNECTIONS = 60, 5, 50
SETTINGS = {
    "DJANGO_SETTINGS_MODULE": "fleet.settings",
    "FLEET_ADDRESS_CONNECTIONS": "0",
    **{f"FLEET_LIMIT_{name}": "off" for name in ("IP", "AUTH", "KEY", "AGENT")},
}


def fleet_web(port: int) -> list[str]:
    return [sys.executable, "-m", "fleet.web", f"--port={port}"]


class Site:
    """A web server that serves one database."""

    def __init__(self, env: dict[str, str], command: Callable[[int], list[str]] = fleet_web) -> None:
        self.port = ports.find_free()
        self._process = subprocess.Popen(command(self.port), cwd=ROOT, env={**env, "FLEET_PROCESS": "web"})
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            if self._process.poll() is not None:
                raise RuntimeError(f"{command(self.port)} ended with exit code {self._process.returncode}")
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)


class Api:
    """A durable Postgres with users, keys and missions, and the sites that serve it."""

    def __init__(self, services: cluster.Cluster) -> None:
        self._services = services
        self.env = {**os.environ, **services.environment(), **SETTINGS}
        self.random = random.Random(2)
        self.missions: list[tuple[int, str]] = []
        self.sorties: list[tuple[int, str]] = []
        self.oldest = ""  # a mission that also exists in the copy
        self.sites: list[Site] = []
        self._connect()

    @property
    def port(self) -> int:
        return self.sites[-1].port

    def _connect(self) -> None:
        url = self._services.environment()["DATABASE_OWNER_URL"]
        self.database = psycopg.connect(url, autocommit=True, application_name="fleet bench")

    def start(self) -> None:
        os.environ.update(self.env)
        import django  # noqa: PLC0415  (the environment names the database)

        django.setup()
        from django.core.management import call_command  # noqa: PLC0415
        from django.db import connections  # noqa: PLC0415

        from fleet.access import operations  # noqa: PLC0415
        from fleet.access.models import Role  # noqa: PLC0415

        call_command("migrate", verbosity=0)
        users = [
            operations.create_user(name=f"user{n}", role=Role.ADMIN if n == 0 else Role.USER) for n in range(USERS)
        ]
        self.owners = [user.pk for user in users]
        scopes = ["read", "launch", "manage", "operate"]
        self.keys = [operations.create_key(user=user, name="bench", scopes=scopes).text for user in users]
        connections.close_all()

    def serve(self, **env: str) -> None:
        self.sites.append(Site({**self.env, **env}))

    def serve_copy(self) -> None:
        """Serve a copy of the current database."""
        self.database.close()  # Postgres does not copy a database that is in use
        url = self._services.environment(database="postgres")["DATABASE_OWNER_URL"]
        with psycopg.connect(url, autocommit=True) as postgres:
            postgres.execute("CREATE DATABASE few TEMPLATE fleet")
        self._connect()
        self.serve(**self._services.environment(database="few", redis_index=1))

    def add_history(self, first: int, last: int) -> None:
        """Insert ended missions with these numbers."""
        from fleet import ids  # noqa: PLC0415

        statement = HISTORY.read_text()
        for begin in range(first, last + 1, 500):
            parameters = {"first": begin, "last": min(last, begin + 499), "owners": self.owners}
            self.database.execute(statement, parameters)
        self.database.execute("VACUUM ANALYZE")
        number = {owner: n for n, owner in enumerate(self.owners)}
        missions = self.database.execute("SELECT created_by_id, id FROM missions_mission ORDER BY random() LIMIT 1000")
        self.missions = [(number[owner], ids.encode(ids.MISSION, id)) for owner, id in missions]
        self.oldest = self.oldest or next(name for n, name in self.missions if n == 1)
        sorties = self.database.execute(
            "SELECT m.created_by_id, s.id FROM missions_sortie s JOIN missions_mission m ON m.id = s.mission_id"
            " ORDER BY random() LIMIT 1000"
        )
        self.sorties = [(number[owner], ids.encode(ids.SORTIE, id)) for owner, id in sorties]

    def read(self) -> Request:
        """A random read, in the proportions of a program that watches missions."""
        owner, mission = self.random.choice(self.missions)
        key = self.keys[owner]
        match self.random.choices(range(6), (20, 25, 15, 15, 15, 10))[0]:
            case 0:
                path = "/missions"
            case 1:
                path = f"/missions/{mission}"
            case 2:
                path = f"/missions/{mission}/progress"
            case 3:
                path = f"/missions/{mission}/sorties"
            case 4:
                path = f"/missions/{mission}/events"
            case _:
                owner, sortie = self.random.choice(self.sorties)
                key, path = self.keys[owner], f"/sorties/{sortie}"
        return Request("read", path, key)

    def launch(self) -> Request:
        """A mission of twenty sorties: one, eighteen after it, one after those."""
        sortie = {"agent": "backend", "run": "true"}
        middle = {f"part{n}": {**sortie, "needs": ["first"]} for n in range(18)}
        plan = {"mission": "Bench", "sorties": {"first": sortie, **middle, "last": {**sortie, "needs": list(middle)}}}
        return Request("launch", "/missions", self.keys[0], {"plan": plan})

    def lists(self) -> dict[str, Request]:
        """All lists, with the parameters that can make them slow."""
        user, admin, mission = self.keys[1], self.keys[0], self.oldest
        paths = {
            "missions": "/missions",
            "missions_oldest": "/missions?ordering=id",
            "missions_failed": "/missions?state=failed",
            "missions_running": "/missions?state=running",
            "missions_named": "/missions?name=ission%207&limit=10",  # the small database has as many matches
            "missions_of_one": "/missions?created_by=user3",
            "mission_sorties": f"/missions/{mission}/sorties",
            "mission_events": f"/missions/{mission}/events",
            "events": "/events",
            "events_seldom": "/events?kind=mission",  # there are none
            "agents": "/agents",
            "nodes": "/nodes",
            "agent_types": "/agent-types",
            "audit": "/audit",
        }
        as_user = {name: Request(name, path, user) for name, path in paths.items() if name not in {"nodes", "audit"}}
        return as_user | {
            f"all_{name}": Request(name, path, admin) for name, path in paths.items() if not name.startswith("mission_")
        }

    def time_lists(self, site_ports: Sequence[int], rounds: int) -> list[dict[str, float]]:
        """The median time of each list at each site, in milliseconds.

        The sites are queried alternately, so that changes in the load of the host affect all of them.
        """
        clients = [Client(port) for port in site_ports]
        times: list[dict[str, list[float]]] = [{name: [] for name in self.lists()} for _ in site_ports]
        for n in range(rounds + 3):
            for name, request in self.lists().items():
                for client, site_times in zip(clients, times, strict=True):
                    began = time.perf_counter()
                    status, body = client.send(request)
                    elapsed = time.perf_counter() - began
                    if status != "200":
                        raise RuntimeError(f"{request.path}: {status} {body[:300]!r}")
                    if n >= 3:
                        site_times[name].append(elapsed * 1_000)
        return [{name: statistics.median(elapsed) for name, elapsed in site_times.items()} for site_times in times]

    def stored_launches(self, results: LoadResults) -> int:
        """The number of accepted missions that exist with all their sorties."""
        from fleet import ids  # noqa: PLC0415

        row = self.database.execute(
            "SELECT count(*) FROM missions_mission m WHERE id = ANY (%s)"
            " AND (SELECT count(*) FROM missions_sortie s WHERE s.mission_id = m.id) = 20",
            [[ids.decode(ids.MISSION, ref) for ref in results.launched]],
        ).fetchone()
        return int(row[0]) if row else 0

    def delivery(self, *, listeners: int, events: int, every_s: float) -> dict[str, float]:
        """Milliseconds from the commit of an event until a listener receives it, with the other listeners idle."""
        from fleet import ids  # noqa: PLC0415

        self._reopen([mission for _, mission in self.missions[:listeners]])
        streams = []
        for n in range(listeners):
            owner, mission = self.missions[n % len(self.missions)]
            streams.append(self._listen(owner, mission))
        owner, mission = self.missions[0]
        scope, received = ids.decode(ids.MISSION, mission), dict[int, float]()

        def read() -> None:
            rest = b""
            with contextlib.suppress(TimeoutError):
                while len(received) < events and (data := streams[0].recv(65_536)):
                    rest += data
                    now = time.time()
                    *complete, rest = rest.split(b"\n\n")
                    for event in complete:
                        if b'"bench":' in event:
                            received[int(event.split(b'"bench":')[1].split(b"}")[0])] = now

        reader = threading.Thread(target=read)
        reader.start()
        sent = {}
        for n in range(events):
            self.database.execute(
                "INSERT INTO fleet_event (kind, scope, data) VALUES ('sortie.progress', %s, %s)",
                [scope, json.dumps({"bench": n})],
            )
            sent[n] = time.time()
            time.sleep(every_s)
        reader.join()
        for stream in streams:
            stream.close()
        times = [(received[n] - sent_at) * 1_000 for n, sent_at in sent.items() if n in received]
        return {
            "p50_ms": statistics.median(times),
            "p95_ms": percentile(times, 0.95),
            "missed": events - len(times),
        }

    def _reopen(self, missions: Sequence[str]) -> None:
        """Pause these missions, because the stream of a mission that has ended ends too."""
        from fleet import ids  # noqa: PLC0415

        self.database.execute(
            "UPDATE missions_mission SET state = 'paused', finished_at = NULL WHERE id = ANY (%s)",
            [[ids.decode(ids.MISSION, mission) for mission in missions]],
        )

    def _listen(self, owner: int, mission: str) -> socket.socket:
        stream = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        head = f"GET /api/v1/missions/{mission}/events/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        stream.sendall(f"{head}Authorization: Bearer {self.keys[owner]}\r\n\r\n".encode())
        response = stream.recv(4_096)
        if b" 200 " not in response:
            raise RuntimeError(f"no stream: {response!r}")
        return stream

    def stop(self) -> None:
        for site in self.sites:
            site.stop()
        self.database.close()


def measure(api: Api, *, seconds: float) -> dict[str, Any]:
    """The results of all measurements by name; docs/bench.md describes them."""
    results: dict[str, Any] = {}
    api.add_history(1, FEW)
    api.serve_copy()
    api.add_history(FEW + 1, MANY)
    api.serve()
    few, many = api.time_lists([site.port for site in api.sites], rounds=30 if seconds > 10 else 15)
    api.sites.pop(0).stop()
    results["api_lists"] = {f"{name}_ms": elapsed for name, elapsed in many.items()}
    growth = {name: many[name] / few[name] for name in many}
    worst = max(growth, key=lambda name: growth[name])
    results["api_growth"] = {"worst": growth[worst]} | growth
    mixed = open_loop(
        api.port, [(READS_PER_S, api.read), (LAUNCHES_PER_S, api.launch)], seconds=seconds, connections=CONNECTIONS
    )
    results["api_open_loop"] = {
        f"{kind}_{name}_ms": mixed.ms(kind, share)
        for kind in ("read", "launch")
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    } | {"refused": sum(mixed.statuses.values()) - mixed.statuses["200"] - mixed.statuses["201"]}
    closed = closed_loop(api.port, api.read, requests=int(100 * seconds), connections=CONNECTIONS)
    results["api_closed_loop"] = {"reads_per_s": closed.good_per_s, "p95_ms": closed.ms("read", 0.95)}
    results["api_live"] = api.delivery(listeners=500, events=100, every_s=0.05)
    results["api_stress"] = stress(api, seconds=seconds / 3)
    return results


def stress(api: Api, *, seconds: float) -> dict[str, float]:
    """Double the request rate until requests are refused, or 5 % of the reads take longer than a second."""
    rate = float(READS_PER_S + LAUNCHES_PER_S)
    while True:
        share = LAUNCHES_PER_S / (READS_PER_S + LAUNCHES_PER_S)
        streams = [(rate * (1 - share), api.read), (rate * share, api.launch)]
        load = open_loop(api.port, streams, seconds=seconds, connections=4 * CONNECTIONS)
        refused = {status: float(count) for status, count in load.statuses.items() if status not in {"200", "201"}}
        if refused or load.ms("read", 0.95) > 1_000 or rate > 5_000:
            return {
                "offered_per_s": rate,
                "answered_per_s": load.good_per_s,
                "read_p95_ms": load.ms("read", 0.95),
                **{f"answers_{status}": count for status, count in refused.items()},
                "launches_lost": float(len(load.launched) - api.stored_launches(load)),
            }
        rate *= 2


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.web.api", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    services = cluster.temporary(durable=True)
    try:
        services.start()
        api = Api(services)
        api.start()
        try:
            sys.stdout.write(json.dumps(measure(api, seconds=8 if options.quick else 30)))
        finally:
            api.stop()
    finally:
        cluster.remove(services)


if __name__ == "__main__":
    main()
