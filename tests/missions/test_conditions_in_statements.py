"""The states that are final, and the endings that are bad, are the same in Python and in SQL. SQL lists them once."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.db import connection

from fleet.postgres import statements
from missions.states import FINAL_MISSION_STATES, FINAL_SORTIE_STATES, MissionState, SortieState, ended_badly
from tests.support.paths import CHECKOUT

STATEMENTS = [
    path for app in ("fleet", "agents", "missions", "checkpoints") for path in (CHECKOUT / app).rglob("sql/*.sql")
]
SORTIES = [(state.value, tolerated) for state in SortieState for tolerated in (False, True)]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("condition", "rule"),
    [
        ("sortie_has_ended", lambda state, _: state in FINAL_SORTIE_STATES),
        ("sortie_ended_badly", lambda state, tolerated: ended_badly(state=state, tolerated=tolerated)),
    ],
)
def test_conditions_of_sorties_agree_with_python(condition: str, rule: Callable[[str, bool], bool]) -> None:
    statement = statements.expand(
        f"SELECT s.state, s.allow_failure, @missions.{condition}(s)"
        " FROM unnest(%s::text[], %s::boolean[]) AS s (state, allow_failure)"
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, [[state for state, _ in SORTIES], [tolerated for _, tolerated in SORTIES]])
        assert cursor.fetchall() == [(*sortie, rule(*sortie)) for sortie in SORTIES]


@pytest.mark.django_db
def test_the_condition_of_missions_agrees_with_python() -> None:
    statement = statements.expand("SELECT m.state, @missions.mission_has_ended(m) FROM unnest(%s::text[]) AS m (state)")
    with connection.cursor() as cursor:
        cursor.execute(statement, [[*MissionState.values]])
        assert cursor.fetchall() == [(state, state in FINAL_MISSION_STATES) for state in MissionState.values]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("table", "condition", "order", "index"),
    [
        ("missions_sortie", "NOT @missions.sortie_has_ended(r)", "mission_id", "sortie_live"),
        ("missions_mission", "NOT @missions.mission_has_ended(r)", "state", "mission_live"),
        ("missions_mission", "@missions.mission_has_ended(r)", "state, id", "mission_ended"),
    ],
)
def test_partial_indexes_serve_the_conditions(table: str, condition: str, order: str, index: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(statements.expand(f"EXPLAIN SELECT FROM {table} r WHERE {condition} ORDER BY {order}"))
        assert index in "\n".join(line for (line,) in cursor.fetchall())


def test_every_condition_in_a_statement_exists() -> None:
    assert [path.name for path in STATEMENTS if "@missions." in statements.expand(path.read_text("utf-8"))] == []


def test_no_other_statement_lists_the_final_states() -> None:
    final = ({*FINAL_MISSION_STATES}, {*FINAL_SORTIE_STATES})
    repeated = [
        path.name
        for path in STATEMENTS
        for listed in re.findall(r"IN \(('[^)]*')\)", path.read_text("utf-8"))
        if {*re.findall(r"'(\w+)'", listed)} in final
    ]
    assert repeated == []
