"""The web process pools its connections and survives a restart of Postgres; other processes have no pool."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.paths import CHECKOUT
from tests.support.postgres.cluster import Cluster

ASK = """
import sys, threading, django; django.setup()
from django.db import close_old_connections, connection
def query():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        found.append(cursor.fetchone()[0])
    connection.close()  # as at the end of a request
for line in sys.stdin:
    found = []
    for _ in range(20):
        thread = threading.Thread(target=query)
        thread.start()
        thread.join()
    print(len(found), len(set(found)), flush=True)
"""


def start(services: Cluster, **env: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "fleet.settings",
        **services.environment(database="postgres"),
        **env,
    }
    return subprocess.Popen(
        [sys.executable, "-c", ASK],
        cwd=CHECKOUT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def served(process: subprocess.Popen[str]) -> tuple[int, int]:
    """How many of twenty requests succeeded, and how many connections they used."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    answers, connections = process.stdout.readline().split()
    return int(answers), int(connections)


def test_the_web_process_reuses_connections_and_replaces_them_after_a_restart_of_postgres(
    private_services: Cluster,
) -> None:
    web = start(private_services, FLEET_PROCESS="web", FLEET_WEB_POOL="3")
    other = start(private_services)
    try:
        answers, connections = served(web)
        assert answers == 20
        assert connections <= 3
        assert served(other) == (20, 20)
        private_services.restart("postgres")
        answers, connections = served(web)
        assert answers == 20
        assert connections <= 6, "each broken connection is replaced once"
    finally:
        for process in (web, other):
            process.communicate(timeout=60)
