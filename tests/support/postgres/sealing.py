"""Seals the audit trail in tests.

Tests share a cluster, and open transactions in other databases delay sealing for a moment.
"""

from __future__ import annotations

from typing import Any

from django.db import connection

from fleet.audit import sealing
from tests.support.waiting import until

NO_EARLIER_TRANSACTION = """
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint > coalesce(max(xid), 0) FROM fleet_audit.entry
"""


def seal(**options: Any) -> int:
    """Seal all entries, once no open transaction can still precede them. Returns the number of sealed entries."""

    def settled() -> bool:
        with connection.cursor() as cursor:
            cursor.execute(NO_EARLIER_TRANSACTION)
            return bool(cursor.fetchone()[0])

    until(settled)
    return sealing.seal(**options)
