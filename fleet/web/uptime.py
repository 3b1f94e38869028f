"""Whether the site has been answering: who reaches the fleet only through it cannot be blamed for an outage of ours.

Each process of the site says so every BEAT_S from its event loop, by Postgres's clock, so that a process that hangs or cannot
reach Postgres does not. Where nobody has for GAP_S, the site was away, and its time of being up begins anew.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from django.db import Error, connection

from fleet.postgres import statements

BEAT_S, GAP_S = 2.0, 6.0

log = logging.getLogger("fleet.web")


def note() -> None:
    """The site answers."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("fleet", "site_heard"), {"gap": GAP_S})


def has_been_up(*, for_s: float) -> bool:
    """Whether it has answered all the time for so long, up to now. True where there has never been a site: whoever acts for
    the fleet then does not come through it."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("fleet", "site_up"), {"gap": GAP_S, "for": for_s})
        (up,) = cursor.fetchone()
        return bool(up)


async def beat() -> None:
    """Note it again and again."""
    thread = ThreadPoolExecutor(1, "uptime")
    while True:
        await asyncio.get_running_loop().run_in_executor(thread, _note)
        await asyncio.sleep(BEAT_S)


def _note() -> None:
    try:
        note()
    except Error as fault:
        log.info("could not note that the site answers: %s", str(fault).strip())
    finally:
        connection.close()  # back into the pool
