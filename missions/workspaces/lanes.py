"""Lanes: one sortie at a time may move a branch (a merge train of one).

The right is a row of `Lane`. It lasts as long as the attempt that has it is the running one, so nobody has to release
it. The ref refs/fleet/lanes/BRANCH in the mirror has the same content, and git verifies it in the transaction that
moves the branch. So an attempt that was stopped for longer than its lease and wakes up loses in git too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from django.db import DatabaseError, connection, transaction
from psycopg.errors import IdleInTransactionSessionTimeout, LockNotAvailable

from fleet import ids
from fleet.postgres import statements
from fleet.postgres.hot_path import Cursor
from missions.models import Lane
from missions.workspaces import branches

LOCK_S = 5  # how long to wait for another attempt that takes the lane
# After this time, Postgres ends the transaction of a process that was suspended while it took the lane. Writing a ref
# may take slightly longer than mirrors.LOCK_S.
HALTED_S = 10


def take(*, repository: str, branch: str, mirror: Path, sortie: UUID, attempt: int) -> str | None:
    """Take the lane of a branch for a running attempt. Returns the content of its ref; None if another sortie has it.

    The ref is written while the row is locked, and the lane is taken only once the row is committed. An attempt that is
    halted in between loses its transaction. When it wakes up it may still write the ref, but then stops; the new
    holder's move then fails (`branches.LaneLost`), and it takes the lane again.
    """
    Lane.objects.get_or_create(repository=repository, branch=branch)
    content = branches.lane_content(mirror, sortie=sortie, attempt=attempt)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_S}s'")
            cursor.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{HALTED_S}s'")
            cursor.execute(
                "SELECT id FROM missions_lane WHERE repository = %s AND branch = %s FOR UPDATE", [repository, branch]
            )
            cursor.execute(  # a separate statement, which sees the effects of the transaction that held the lock
                statements.read("missions.workspaces", "take_lane"),
                {"repository": repository, "branch": branch, "sortie": sortie, "attempt": attempt},
            )
            row = cursor.fetchone()
            if row is None:
                return None
            (lane,) = row
            current = branches.read_lane(mirror, branch)
            if current != content:
                branches.write_lane(mirror, branch, content=content, expected=current)
            cursor.execute(
                "UPDATE missions_lane SET sortie_id = %s, attempt = %s WHERE id = %s", [sortie, attempt, lane]
            )
    except DatabaseError as error:
        if isinstance(error.__cause__, (LockNotAvailable, IdleInTransactionSessionTimeout)):
            return None
        raise
    except branches.LaneLost:
        return None
    return content


def grant(cursor: Cursor, *, after: Sequence[UUID] | None) -> list[tuple[bool, UUID, UUID, str, str, bool]]:
    """Give free lanes to the sorties that are next. Returns rows for `Consequences.add_rows`.

    Runs in the caller's transaction. `after`: sorties that may have freed a lane, or that began to wait; None: all
    lanes.
    """
    parameters = {"sorties": None if after is None else list(after)}
    cursor.execute(statements.read("missions.workspaces", "lock_lanes"), parameters)
    cursor.execute(statements.read("missions.workspaces", "grant_lanes"), parameters)
    return cursor.fetchall()


def holder(*, repository: str, branch: str) -> str:
    """The key and the id of the sortie that has the lane, as text; "" if no sortie has it."""
    lane = Lane.objects.filter(repository=repository, branch=branch).select_related("sortie").first()
    if lane is None or lane.sortie is None:
        return ""
    return f"{lane.sortie.key} ({ids.encode(ids.SORTIE, lane.sortie.id)})"
