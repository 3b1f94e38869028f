"""A large mission for measurements: all its sorties have ended, with results, and it has many events."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg
from django.db import connection

from missions.models import Sortie
from tests.support import fleet

RESULT_BYTES = 200
EVENTS_PER_SORTIE = 10


class LargeMission:
    """A mission with `sorties` sorties. `ids` has their ids in the order of their keys: s0, s1 and so on."""

    def __init__(self, *, sorties: int) -> None:
        plan = {f"s{number}": {"needs": [f"s{number - 1}"]} if number % 3 else {} for number in range(sorties)}
        self.id = fleet.launch(plan).id
        self.end_all()
        execute(
            "INSERT INTO missions_attempt (sortie_id, number, state, finished_at, result) SELECT id, 1, 'succeeded',"
            " now(), to_jsonb(left(repeat(md5(id::text), 7), %s)) FROM missions_sortie WHERE mission_id = %s",
            RESULT_BYTES,
            self.id,
        )
        for _ in range(EVENTS_PER_SORTIE - 1):
            execute(
                "INSERT INTO fleet_event (kind, scope, subject) SELECT 'sortie.queued', mission_id, id"
                " FROM missions_sortie WHERE mission_id = %s",
                self.id,
            )
        vacuum()
        by_key = dict(Sortie.objects.filter(mission=self.id).values_list("key", "id"))
        self.ids: list[UUID] = [by_key[key] for key in plan]

    def end_all(self) -> None:
        execute(
            "UPDATE missions_sortie SET state = 'succeeded', finished_at = now(), started_at = now(), attempt = 1,"
            " ready_at = now() WHERE mission_id = %s",
            self.id,
        )

    def change(self, sorties: Sequence[UUID]) -> None:
        """Change these sorties, with their events."""
        execute("UPDATE missions_sortie SET tries = tries + 1 WHERE id = ANY (%s)", list(sorties))
        execute(
            "INSERT INTO fleet_event (kind, scope, subject) SELECT 'sortie.waiting', mission_id, id"
            " FROM missions_sortie WHERE id = ANY (%s)",
            list(sorties),
        )

    def change_all(self) -> None:
        """Change every sortie without an event, so that every row differs from a checkpoint."""
        execute("UPDATE missions_sortie SET tries = tries + 1 WHERE mission_id = %s", self.id)


def vacuum(table: str = "") -> None:
    """VACUUM ANALYZE a table (all by default), as autovacuum does. Only the owner of the tables can."""
    with psycopg.connect(os.environ["DATABASE_OWNER_URL"], autocommit=True) as session:
        session.execute(f"VACUUM ANALYZE {table}")


def execute(statement: str, *parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
