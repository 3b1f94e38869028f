"""Sealing in tests, which share their cluster: its transactions of other databases hold the chain up for a moment."""

from __future__ import annotations

from typing import Any

from django.db import connection

from fleet.audit import sealing
from tests.support import fleet

BEHIND = """
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint > coalesce(max(xid), 0) FROM fleet_audit.entry
"""


def seal(**how: Any) -> int:
    """Seal all that is written, once no transaction is running that could still precede it; how many entries were sealed."""

    def settled() -> bool:
        with connection.cursor() as cursor:
            cursor.execute(BEHIND)
            return bool(cursor.fetchone()[0])

    fleet.until(settled)
    return sealing.seal(**how)
