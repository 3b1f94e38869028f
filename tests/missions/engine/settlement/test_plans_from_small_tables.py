"""An agent plans its statements once. They read only the rows that they change, however the tables have grown since.

Postgres plans them anew only after an ANALYZE, which may be minutes after the launch of a large mission.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connection

from agents import operations as agents
from fleet import ids
from fleet.postgres import hot_path, roles
from missions import claims
from missions.claims import Claim
from missions.engine.settlement import settle_and_claim
from missions.engine.settlement.settle_and_claim import Claimant
from missions.engine.settlement.settling import Settlement
from tests.support import fleet

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

CHAIN = {"first": {}, "second": {"needs": ["first"]}, "third": {"needs": ["second"]}}
UNRELATED = {f"s{n}": {"agent": "security"} for n in range(1_000)}
MAX_ROWS = 60  # a statement changes at most three sorties, and looks up each of them a few times
ROWS_READ = """
    SELECT coalesce(sum(seq_tup_read + idx_tup_fetch), 0)::bigint FROM pg_stat_xact_user_tables
    WHERE relname IN ('missions_sortie', 'missions_need', 'missions_attempt')
"""


class Agent:
    """An agent that claims, renews and settles one sortie after the other, and counts the rows that it reads."""

    def __init__(self) -> None:
        self.connection = hot_path.connect(name="test")
        self.claimant = Claimant(agent=ids.new(), agent_type="backend", lease_s=60)
        self.rows_read: dict[str, int] = {}
        agents.register(agent=self.claimant.agent, agent_type="backend", node="test", pid=1, start_time=0.0)

    def run_sortie(self, *, outcome: str) -> None:
        with self._counted("claim") as cursor:
            (claim,) = settle_and_claim.settle_and_claim(cursor, by=self.claimant, max_claims=1).claims
        with self._counted("renew") as cursor:
            assert claims.renew(cursor, attempts=[(claim.id, claim.attempt)], lease_s=60).renewed
        with self._counted("settle") as cursor:
            self._settle(cursor, claim, outcome)

    def _settle(self, cursor: hot_path.Cursor, claim: Claim, outcome: str) -> None:
        settlement = Settlement(id=claim.id, attempt=claim.attempt, state=outcome, outcome=outcome, result="1")
        settled = settle_and_claim.settle_and_claim(cursor, by=self.claimant, settlements=[settlement])
        assert settled.accepted == {claim.id}

    @contextmanager
    def _counted(self, operation: str) -> Iterator[hot_path.Cursor]:
        with self.connection.cursor() as cursor, hot_path.transaction(self.connection):
            before = self._rows_read(cursor)  # also those of earlier transactions that Postgres has not reported yet
            yield cursor
            self.rows_read[operation] = self._rows_read(cursor) - before

    @staticmethod
    def _rows_read(cursor: hot_path.Cursor) -> int:
        (rows,) = cursor.execute(ROWS_READ).fetchone() or (0,)
        return int(rows)


@pytest.fixture
def small_statistics() -> Iterator[None]:
    """Tables of six sorties, which nothing analyzes again: Postgres goes on believing that they are small."""

    fleet.launch(CHAIN)
    fleet.launch(CHAIN)
    with roles.as_owner(), connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE tableowner = current_user AND schemaname = 'public'")
        tables = [name for (name,) in cursor.fetchall()]
        assert "missions_sortie" in tables
        # All tables: a vacuum of any that a statement mentions makes Postgres plan it anew.
        for table in tables:
            cursor.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        cursor.execute("ANALYZE missions_sortie, missions_need, missions_attempt, missions_mission")
    yield
    with roles.as_owner(), connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"ALTER TABLE {table} RESET (autovacuum_enabled)")


@pytest.fixture
def agent() -> Iterator[Agent]:
    agent = Agent()
    yield agent
    agent.connection.close()


@pytest.mark.usefixtures("small_statistics")
@pytest.mark.parametrize("outcome", ["succeeded", "failed"])
def test_a_statement_reads_few_rows_of_tables_that_have_grown_since_it_was_planned(agent: Agent, outcome: str) -> None:
    agent.run_sortie(outcome=outcome)
    fleet.launch(UNRELATED)
    agent.run_sortie(outcome=outcome)
    assert {operation: rows for operation, rows in agent.rows_read.items() if rows > MAX_ROWS} == {}
