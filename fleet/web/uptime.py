"""The uptime of the site: external agents must not lose their leases because of an outage of the site.

Each process of the site records a heartbeat every BEAT_S from its event loop, by Postgres's clock. A process that hangs
or cannot reach Postgres records none. After GAP_S without a heartbeat the site counts as down, and its uptime
starts again.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from django.db import Error, connection

from fleet.postgres import statements

BEAT_S, GAP_S = 2.0, 6.0

log = logging.getLogger("fleet.web")


def record_heartbeat() -> None:
    """Record that the site is up."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("fleet", "site_heartbeat"), {"gap": GAP_S})


def has_been_up(*, for_s: float) -> bool:
    """Whether the site has been up for the last `for_s` seconds.

    True if there has never been a site, because no agent can depend on one.
    """
    with connection.cursor() as cursor:
        cursor.execute(statements.read("fleet", "site_up"), {"gap": GAP_S, "for": for_s})
        (up,) = cursor.fetchone()
        return bool(up)


async def keep_recording() -> None:
    """Record a heartbeat every BEAT_S, forever."""
    thread = ThreadPoolExecutor(1, "uptime")
    while True:
        await asyncio.get_running_loop().run_in_executor(thread, _try_recording)
        await asyncio.sleep(BEAT_S)


def _try_recording() -> None:
    try:
        record_heartbeat()
    except Error as error:
        log.info("Could not record that the site is up: %s", str(error).strip())
    finally:
        connection.close()  # back into the pool
