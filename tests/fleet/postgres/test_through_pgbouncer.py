"""Through PgBouncer in transaction mode the fleet uses no session state. What needs a session bypasses PgBouncer."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from fleet import ids
from tests.support.paths import CHECKOUT
from tests.support.postgres.cluster import Cluster, remove, temporary, url
from tests.support.postgres.pgbouncer import SERVER_CONNECTIONS, pgbouncer
from tests.support.processes.supervised import Checkout, checkout
from tests.support.services.servers import Server
from tests.support.waiting import until

pytestmark = [pytest.mark.xdist_group("services"), pytest.mark.timeout(300)]
OUTAGE_S = 1.0

QUICK = {"FLEET_HEARTBEAT_S": "0.5", "FLEET_GRACE_S": "1", "FLEET_RENEW_S": "0.3", "FLEET_LEASE_S": "6"}


@dataclass(frozen=True)
class PooledFleet:
    cluster: Cluster
    pooler: Server
    home: Checkout
    folder: Path

    @property
    def through_pooler(self) -> str:
        return self.home.env["DATABASE_URL"]

    def launch(self, sorties: dict[str, object]) -> str:
        plan = self.folder / "plan.json"
        plan.write_text(json.dumps({"mission": "A test", "sorties": sorties}))
        return str(self.home.json("fleet_mission", "run", str(plan), "--detach", cwd=self.folder)["id"])

    def wait(self, mission: str) -> dict[str, object]:
        self.home.manage("fleet_mission", "watch", mission, "--timeout", "60", check=False, timeout=80)
        return dict(self.home.json("fleet_mission", "show", mission))

    def succeeded(self, mission: str) -> int:
        return int(self.home.json("fleet_mission", "show", mission)["sorties"]["succeeded"])

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.cluster.administrator() as session:
            return session.execute(query).fetchall()


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PooledFleet]:
    """A fleet whose processes reach Postgres through PgBouncer, with fewer connections than it has processes."""
    folder = tmp_path_factory.mktemp("pooled")
    cluster = temporary(durable=False)
    try:
        cluster.start()
        postgres = cluster.endpoints().postgres
        with pgbouncer(folder, postgres) as pooler:
            direct = cluster.environment()
            user = f"{postgres.user}:{postgres.password}"
            urls = {
                "DATABASE_URL": f"postgresql://{user}@127.0.0.1:{pooler.port}/fleet",
                "DATABASE_DIRECT_URL": url(postgres, database="fleet"),
                "DATABASE_OWNER_URL": direct["DATABASE_OWNER_URL"],
                "REDIS_URL": direct["REDIS_URL"],
            }
            with checkout(env={**urls, **QUICK}) as home:
                home.manage("fleet_up", "--detach", timeout=200)
                yield PooledFleet(cluster, pooler, home, folder)
                home.manage("fleet_down", timeout=60)
    finally:
        remove(cluster)


def test_missions_succeed_over_fewer_connections_than_the_fleet_has_clients(pooled: PooledFleet) -> None:
    sorties: dict[str, object] = {
        f"{kind}{number}": {
            "agent": kind,
            "run": f"echo {number}; test $FLEET_ATTEMPT != x",
            "needs": [f"{kind}{number - 1}"] if number % 3 else [],
        }
        for kind in ("backend", "testing", "frontend")
        for number in range(9)
    }
    sorties["again"] = {
        "agent": "backend",
        "run": "case $FLEET_ATTEMPT in */1) exit 1;; esac",
        "retry": {"max_attempts": 2},
    }
    missions = [pooled.launch(sorties) for _ in range(2)]
    for mission in missions:
        document = pooled.wait(mission)
        assert document["state"] == "succeeded", document
    assert "3" in pooled.home.manage("fleet_mission", "logs", missions[0], "backend3").stdout
    through = pooled.rows(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'fleet' AND application_name !~ 'node|lock'"
    )
    assert through[0][0] <= SERVER_CONNECTIONS + 2, "only the sessions of nodes bypass the pooler"


def test_no_setting_prepared_statement_or_lock_is_left_in_the_shared_sessions(pooled: PooledFleet) -> None:
    def look(_: int) -> tuple[object, ...]:
        with psycopg.connect(pooled.through_pooler, prepare_threshold=None) as session:
            row = session.execute(
                "SELECT current_setting('enable_seqscan'), current_setting('statement_timeout'), current_setting('jit'),"
                " (SELECT count(*) FROM pg_prepared_statements), pg_backend_pid(), pg_sleep(0.05)"
            ).fetchone()
            assert row is not None
            return row

    with ThreadPoolExecutor(3 * SERVER_CONNECTIONS) as threads:
        results = list(threads.map(look, range(6 * SERVER_CONNECTIONS)))
    assert {row[:4] for row in results} == {("on", "0", "off", 0)}
    assert len({row[4] for row in results}) > 1
    left = pooled.rows(
        "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE locktype = 'advisory' AND granted AND state = 'idle'"
    )
    assert [name for (name,) in left if "lock" not in name] == [], "sessions for locks bypass the pooler"


def test_the_engine_pins_its_plans_in_each_transaction(pooled: PooledFleet) -> None:
    script = (
        "import django; django.setup()\n"
        "from fleet.postgres import hot_path\n"
        "with hot_path.connect(name='test') as connection:\n"
        "    ask = 'SHOW enable_seqscan'\n"
        "    with hot_path.statement(connection): print(connection.execute(ask).fetchone()[0])\n"
        "    with hot_path.transaction(connection):\n"
        "        with connection.transaction(): print(connection.execute(ask).fetchone()[0])\n"
        "    print(connection.execute(ask).fetchone()[0])\n"
        "    try:\n"
        "        with hot_path.transaction(connection): connection.execute('SELECT 1/0')\n"
        "    except Exception as error: print(type(error).__name__, connection.info.transaction_status.name)\n"
    )
    assert run(pooled, script).split() == ["off", "off", "on", "DivisionByZero", "IDLE"]


def test_no_cursor_stays_open_on_the_server_between_two_statements(pooled: PooledFleet) -> None:
    script = (
        "import django; django.setup()\n"
        "from django.db import connection\n"
        "with connection.chunked_cursor() as cursor:\n"
        "    cursor.execute('SELECT generate_series(1, 3)'); print(type(cursor.cursor).__name__, len(cursor.fetchall()))\n"
    )
    kind, count = run(pooled, script).split()
    assert ("Server" in kind, count) == (False, "3")


def test_a_node_is_notified_of_orders_despite_the_pooler(pooled: PooledFleet) -> None:
    start = time.monotonic()
    pooled.home.manage("fleet_agents", "spawn", "backend")
    assert time.monotonic() - start < 20
    listening = pooled.rows("SELECT client_port FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
    assert len(listening) == 1
    log = (pooled.home.root / "private" / "logs" / "node.log").read_text()
    assert "cannot listen" not in log


def test_a_session_lock_excludes_other_processes_across_transactions(pooled: PooledFleet) -> None:
    script = (
        "import django, sys; django.setup()\n"
        "from fleet.postgres import locks\n"
        "from django.db import connection, transaction\n"
        "with locks.session(locks.Lock.CHECKPOINTS):\n"
        "    for _ in range(2):\n"
        "        with transaction.atomic(): connection.cursor().execute('SELECT 1')\n"
        "    print('held', flush=True); sys.stdin.readline()\n"
    )
    env = {**pooled.home.env, "DJANGO_SETTINGS_MODULE": "fleet.settings"}
    holder = subprocess.Popen(
        [sys.executable, "-c", script], env=env, cwd=CHECKOUT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == "held\n"
    mission = pooled.launch({"a": {"agent": "backend", "run": "true"}})
    pooled.wait(mission)
    captured = threading.Event()

    def capture() -> None:
        pooled.home.manage("fleet_checkpoint", "create", "locked", "--mission", mission, timeout=60)
        captured.set()

    waiting = threading.Thread(target=capture)
    waiting.start()
    assert not captured.wait(3), "a capture waits for the exclusive lock"
    holder.stdin.write("\n")
    holder.stdin.flush()
    assert captured.wait(30)
    waiting.join()
    holder.wait(20)


def test_a_checkpoint_is_captured_and_restored(pooled: PooledFleet) -> None:
    mission = pooled.launch({"a": {"agent": "backend", "run": "true"}, "b": {"agent": "testing", "run": "true"}})
    pooled.wait(mission)
    pooled.home.manage("fleet_checkpoint", "create", "pooled", "--mission", mission)
    pooled.home.manage("fleet_checkpoint", "restore", "pooled", timeout=60)
    assert pooled.home.json("fleet_checkpoint", "verify")["damages"] == []
    assert pooled.wait(mission)["state"] == "succeeded"


def test_a_halted_postgres_behind_the_pooler_is_noticed(pooled: PooledFleet) -> None:
    script = (
        "import django; django.setup()\n"
        "from django.db import connection\n"
        "with connection.cursor() as cursor:\n"
        "    cursor.execute('SELECT 1'); print('connected', flush=True); input()\n"
        "    try: cursor.execute('SELECT 2')\n"
        "    except Exception as error: print(str(error).split(',')[0], flush=True)\n"
    )
    env = {**pooled.home.env, "DJANGO_SETTINGS_MODULE": "fleet.settings", "FLEET_POSTGRES_TIMEOUT_S": "1"}
    client = subprocess.Popen(
        [sys.executable, "-c", script], env=env, cwd=CHECKOUT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert client.stdout is not None
    assert client.stdin is not None
    assert client.stdout.readline() == "connected\n"
    pooled.cluster.pause("postgres")
    try:
        start = time.monotonic()
        client.stdin.write("\n")
        client.stdin.flush()
        assert client.stdout.readline().startswith("no answer for")
        assert time.monotonic() - start < 20
    finally:
        pooled.cluster.resume("postgres")
        client.kill()
        client.wait()
    assert pooled.wait(pooled.launch({"a": {"agent": "backend", "run": "true"}}))["state"] == "succeeded"


def test_a_restart_of_the_pooler_costs_no_attempt(pooled: PooledFleet) -> None:
    mission = pooled.launch({f"s{n}": {"agent": "backend", "run": "sleep 0.3"} for n in range(20)})
    until(lambda: pooled.succeeded(mission) >= 4)
    pooled.pooler.kill()
    time.sleep(OUTAGE_S)
    pooled.pooler.start()
    document = pooled.wait(mission)
    assert document["state"] == "succeeded", document
    assert pooled.rows(f"SELECT DISTINCT attempt FROM missions_sortie WHERE mission_id = '{uuid_of(mission)}'") == [
        (1,)
    ]


def test_a_pooler_without_the_direct_address_is_refused_with_the_remedy(pooled: PooledFleet) -> None:
    urls = {name: pooled.home.env[name] for name in ("DATABASE_URL", "REDIS_URL")}
    with checkout(env=urls) as home:
        result = home.manage("fleet_up", check=False, timeout=60)
    assert result.returncode == 1
    assert "is PgBouncer, and DATABASE_DIRECT_URL is not set" in result.stderr


def test_a_direct_address_that_leads_to_the_pooler_is_refused(pooled: PooledFleet) -> None:
    urls = {name: pooled.home.env[name] for name in ("DATABASE_URL", "REDIS_URL")}
    with checkout(env={**urls, "DATABASE_DIRECT_URL": f"{urls['DATABASE_URL']}?options="}) as home:
        result = home.manage("fleet_up", check=False, timeout=60)
    assert result.returncode == 1
    assert "DATABASE_DIRECT_URL points to a pooler" in result.stderr


def run(pooled: PooledFleet, script: str) -> str:
    """Run Python code with the settings of the fleet. Returns its output."""
    env = {**pooled.home.env, "DJANGO_SETTINGS_MODULE": "fleet.settings"}
    result = subprocess.run(
        [sys.executable, "-c", script], env=env, cwd=CHECKOUT, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def uuid_of(mission: str) -> UUID:
    return ids.decode(ids.MISSION, mission)
