"""The control loop runs several times a second, so it logs the beginning and the end of an outage, not each try."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

from tests.support.paths import CHECKOUT
from tests.support.postgres.cluster import Cluster


def test_an_outage_of_postgres_is_logged_when_it_begins_and_when_it_ends(private_services: Cluster) -> None:
    private_services.kill("postgres")
    with subprocess.Popen(
        [sys.executable, "manage.py", "fleet_control"],
        cwd=CHECKOUT, env={**os.environ, **private_services.environment()}, stderr=subprocess.PIPE, text=True,
    ) as loop:  # fmt: skip
        try:
            lines: list[str] = []

            def read_until(condition: Callable[[], bool]) -> None:
                assert loop.stderr is not None
                while not condition():
                    lines.append(loop.stderr.readline())
                    assert lines[-1], f"the loop has ended: {lines}"

            read_until(lambda: sum("fleet.schedules" in line for line in lines) == 3)  # it tries every second
            private_services.restart("postgres")
            read_until(lambda: "Postgres answers again" in lines[-1])
        finally:
            loop.terminate()
            loop.communicate(timeout=60)
    assert sum("Postgres does not answer" in line for line in lines) == 1, "".join(lines)
