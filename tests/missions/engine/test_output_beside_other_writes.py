"""Writing output waits for no settlement, and never deadlocks with a removal of the same sorties."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from uuid import UUID

import pytest
from django.db import connection

from fleet.postgres import hot_path, statements
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


@pytest.fixture
def writer() -> Iterator[OutputWriter]:
    """A writer, not started, with a line of output for each of several running sorties."""
    fleet.launch({f"s{number}": {} for number in range(SORTIES)})
    agent = external_agents.register(agent_type="backend", concurrency=SORTIES).id
    external_agents.claim(agent=agent, count=SORTIES)
    writer = OutputWriter(max_bytes=1_000)
    for sortie in sorties():
        writer.buffer(sortie=sortie, attempt=1).output(stream="stdout", data=b"a line\n")
    yield writer
    writer.stop()
    writer.join()


def sorties() -> list[UUID]:
    return list(Sortie.objects.order_by("id").values_list("id", flat=True))


def test_output_is_written_while_a_settlement_holds_its_locks(writer: OutputWriter) -> None:
    with closing(hot_path.connect(name="a settlement")) as settlement, hot_path.transaction(settlement):
        settlement.execute(
            statements.read("missions", "renew"), {"ids": sorties(), "attempts": [1] * SORTIES, "lease": 60}
        )
        writer.start()
        until(lambda: Output.objects.count() == SORTIES)


def test_the_writer_locks_sorties_in_the_order_of_a_removal(writer: OutputWriter) -> None:
    first, *others = sorties()
    with closing(hot_path.connect(name="a removal")) as removal, hot_path.transaction(removal):
        removal.execute("SELECT FROM missions_sortie WHERE id = %s FOR UPDATE", [first])
        writer.start()
        until(waits)
        removal.execute("SELECT FROM missions_sortie WHERE id = ANY (%s) ORDER BY id FOR UPDATE NOWAIT", [others])
    until(lambda: Output.objects.count() == SORTIES)
