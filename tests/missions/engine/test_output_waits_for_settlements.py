"""Writing output waits for a settlement of the same sorties, and never deadlocks with it."""

from __future__ import annotations

from contextlib import closing

import pytest
from django.db import connection

from fleet.postgres import hot_path
from missions.engine.output.writer import OutputWriter
from missions.models import Output, Sortie
from missions.operations import external_agents
from tests.support import fleet
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

SORTIES = 12
WAITS = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE '%output writer'"
)


def waits() -> int:
    with connection.cursor() as cursor:
        cursor.execute(WAITS)
        return int(cursor.fetchone()[0])


def test_the_writer_locks_sorties_in_the_order_of_settlements() -> None:
    fleet.launch({f"s{number}": {} for number in range(SORTIES)})
    agent = external_agents.register(agent_type="backend", concurrency=SORTIES).id
    external_agents.claim(agent=agent, count=SORTIES)
    first, *others = Sortie.objects.order_by("id").values_list("id", flat=True)
    writer = OutputWriter(max_bytes=1_000)
    for sortie in (first, *others):
        writer.buffer(sortie=sortie, attempt=1).output(stream="stdout", data=b"a line\n")
    with closing(hot_path.connect(name="a settlement")) as settlement, hot_path.transaction(settlement):
        settlement.execute("SELECT FROM missions_sortie WHERE id = %s FOR UPDATE", [first])
        writer.start()
        until(waits)
        settlement.execute("SELECT FROM missions_sortie WHERE id = ANY (%s) ORDER BY id FOR UPDATE NOWAIT", [others])
    until(lambda: Output.objects.count() == SORTIES)
    writer.stop()
    writer.join()
