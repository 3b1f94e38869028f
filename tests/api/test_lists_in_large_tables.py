"""Indexes find rare rows in large tables, and filters return exactly what they promise."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.db.models import QuerySet

from fleet.access.models import Role
from fleet.events.models import Event
from fleet.postgres import roles, statements
from missions.models import Mission
from tests.support import api

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def plan_of(rows: QuerySet[Event] | QuerySet[Mission], *, sorting: bool = True) -> str:
    """Postgres's plan for a query, without sequential scans."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"SET LOCAL enable_sort = {'on' if sorting else 'off'}")
        sql, values = rows.query.sql_with_params()
        cursor.execute(f"EXPLAIN {sql}", values)
        return "\n".join(line for (line,) in cursor.fetchall())


@pytest.mark.django_db(transaction=False)
@pytest.mark.parametrize(
    ("kind", "index"),
    [("sortie.failed", "event_seldom"), ("node.lost", "event_seldom"), ("mission", "event_seldom_noun")],
)
def test_events_of_a_rare_kind_are_read_from_an_index_in_order(kind: str, index: str) -> None:
    plan = plan_of(Event.objects.of_kind(kind).order_by("-id")[:50], sorting=False)
    assert f"using {index} on" in plan
    assert "Sort" not in plan


@pytest.mark.django_db(transaction=False)
def test_a_search_for_part_of_a_mission_name_uses_an_index() -> None:
    assert "mission_named" in plan_of(Mission.objects.filter(name__icontains="invoices").order_by())


@pytest.mark.django_db(transaction=False)
@pytest.mark.parametrize(
    ("preparation", "there"),
    [
        ("CREATE SCHEMA elsewhere; CREATE EXTENSION pg_trgm SCHEMA elsewhere", True),
        ("DO $$ BEGIN EXECUTE format('REVOKE CREATE ON DATABASE %I FROM %I', current_database(), user); END $$", False),
    ],
    ids=["in a schema that is not searched", "without permission"],
)
def test_the_name_index_is_created_only_if_postgres_has_pg_trgm(preparation: str, there: bool) -> None:
    with roles.as_owner(), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DROP EXTENSION pg_trgm CASCADE")
        cursor.execute(preparation)
        cursor.execute(statements.read("missions.queries", "mission_name_index"))
        found = "mission_named" in plan_of(Mission.objects.filter(name__icontains="invoices").order_by())
        transaction.set_rollback(True)
    assert found == there


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("sortie", ["sortie.queued", "sortie.failed"]), ("sortie.queued", ["sortie.queued"]),
        ("sortie.failed", ["sortie.failed"]), ("mission", ["mission.failed"]), ("miss", []), ("mission.", []),
    ],
)  # fmt: skip
def test_events_can_be_filtered_by_kind_and_by_its_prefix(kind: str, found: list[str]) -> None:
    Event.objects.all().delete()
    for item in ("sortie.queued", "mission.failed", "sortie.failed", "node.up"):
        Event.objects.create(kind=item)
    value = api.person("boss", Role.ADMIN).get(f"events?kind={kind}&ordering=id").json()["results"]
    assert [item["kind"] for item in value] == found


def test_missions_can_be_filtered_by_owner() -> None:
    boss, ann, bob = (
        api.person("boss", Role.ADMIN),
        api.person("ann", can_execute=True),
        api.person("bob", can_execute=True),
    )
    team = Group.objects.create(name="payments")
    ann.user.groups.add(team)
    of_ann = ann.post("missions", {"plan": api.PLAN, "team": "payments"}).json()["id"]
    of_bob = bob.post("missions", {"plan": api.PLAN}).json()["id"]

    def mission_ids(query: str) -> list[str]:
        return [result["id"] for result in boss.get(f"missions?{query}").json()["results"]]

    assert mission_ids("created_by=ann") == [of_ann]
    assert mission_ids("created_by=bob") == [of_bob]
    assert (
        mission_ids("created_by=nobody")
        == mission_ids("team=nobody")
        == mission_ids("created_by=bob&team=payments")
        == []
    )
    assert mission_ids("team=payments") == [of_ann]
