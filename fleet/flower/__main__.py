"""`python -m fleet.flower`: Flower on a Unix socket in the fleet's private folder.

Flower serves /metrics and /healthcheck without authentication, and every process of a host, including the workloads
of sorties, could connect to a port. The private folder has mode 0700 and is hidden from sorties. Flower also runs
read-only, because its actions (shut a worker down, revoke, send a task) would bypass the fleet's rules, events and
permissions; the fleet has commands for them.
"""

from __future__ import annotations

import atexit
import os
from pathlib import Path

import django
from django.conf import settings

from fleet.celery import app
from fleet.flower.client import PREFIX, SOCKET, USER


def main() -> None:
    django.setup()
    # Not as an argument, which `ps` would show.
    os.environ["FLOWER_BASIC_AUTH"] = f"{USER}:{settings.FLEET_CREDENTIALS.flower_password}"
    app.conf.update(
        broker_transport=None,  # kombu's own, because Flower recognises a broker by the name of its transport
        broker_url=";".join(settings.FLEET_ENDPOINTS.redis.broker_urls),
    )
    os.chdir(settings.FLEET_HOME.run)  # keeps the address of the socket short, even if the path is long
    atexit.register(Path(SOCKET).unlink, missing_ok=True)
    app.start(
        ["flower", f"--unix_socket={SOCKET}", f"--url_prefix={PREFIX}", "--read_only=True", "--persistent=False",
         "--tasks_columns=name,uuid,state,kwargs,result,received,runtime,worker"]
    )  # fmt: skip


if __name__ == "__main__":
    main()
