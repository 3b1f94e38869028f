"""`python -m fleet.flower`: Flower on a Unix socket in the fleet's private folder.

A socket there, rather than a port of the loopback: Flower answers /metrics and /healthcheck to anybody who can connect,
whatever credentials it was given, and every process of a host, sorties included, can connect to a port. The folder is
0700 and hidden from what sorties start. Flower is read-only besides: its actions (shut a worker down, revoke, send a
task) go past the fleet's own rules, its events and its permissions; the fleet has commands for what they do.
"""

from __future__ import annotations

import atexit
import os
from pathlib import Path

import django
from django.conf import settings

from fleet.celery import app
from fleet.flower.door import PREFIX, SOCKET, USER


def main() -> None:
    django.setup()
    os.environ["FLOWER_BASIC_AUTH"] = (
        f"{USER}:{settings.FLEET_CREDENTIALS.flower_password}"  # no argument: `ps` shows those
    )
    app.conf.broker_transport = None  # kombu's own: Flower knows a broker by the name of its transport
    os.chdir(settings.FLEET_HOME.run)  # so that the socket's address is short, however long the path is
    atexit.register(Path(SOCKET).unlink, missing_ok=True)
    app.start(
        ["flower", f"--unix_socket={SOCKET}", f"--url_prefix={PREFIX}", "--read_only=True", "--persistent=False",
         "--tasks_columns=name,uuid,state,kwargs,result,received,runtime,worker"]
    )  # fmt: skip


if __name__ == "__main__":
    main()
