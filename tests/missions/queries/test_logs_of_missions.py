"""The combined output of a matrix or a whole mission, by the command and over HTTP."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from django.db import connection

from missions.models import Attempt, Mission, Output, Sortie
from missions.operations import external_agents
from tests.support import api, fleet
from tests.support.console import CommandResult, manage

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

PLAN = {
    "test": {"matrix": {"on": ["linux", "mac"]}},
    "report": {"needs": ["test"]},
}


def logs(*arguments: str) -> CommandResult:
    return manage("fleet_mission", "logs", *arguments)


def write_output(mission: Mission, key: str, text: str, *, stream: str = "stdout", attempt: int = 1) -> None:
    sortie = Sortie.objects.get(mission=mission, key=key)
    Attempt.objects.get_or_create(sortie=sortie, number=attempt, defaults={"state": "succeeded"})
    Sortie.objects.filter(id=sortie.id, attempt__lt=attempt).update(attempt=attempt)
    Output.objects.create(sortie=sortie, attempt=attempt, stream=stream, text=text)


@pytest.fixture
def mission() -> Mission:
    new_mission = fleet.launch(PLAN)
    write_output(new_mission, "test[on=linux]", "1 of 2\n2 of")
    write_output(new_mission, "test[on=mac]", "hello\n")
    write_output(new_mission, "test[on=linux]", " 2\n")
    write_output(new_mission, "test[on=mac]", "oops\n", stream="stderr")
    write_output(new_mission, "test[on=mac]", "better\n", attempt=2)
    write_output(new_mission, "report", "no end of line")
    return new_mission


def test_the_name_of_a_matrix_selects_all_its_members(mission: Mission) -> None:
    result = logs("latest", "test")
    assert result.out.splitlines() == [
        "test[on=linux] | 1 of 2",
        "test[on=mac] | hello",
        "test[on=linux] | 2 of 2",
        "test[on=mac] (attempt 2) | better",
    ]
    assert result.err == "test[on=mac] | oops\n"
    assert logs("latest", "test", "--attempt", "2").out == "test[on=mac] (attempt 2) | better\n"
    assert logs("latest", "test[on=linux]").out == "1 of 2\n2 of 2\n"
    assert logs("latest", "tes").code == 1


def test_without_a_name_the_whole_mission_is_selected(mission: Mission) -> None:
    assert logs("latest").out.splitlines()[-2:] == ["test[on=mac] (attempt 2) | better", "report | no end of line"]
    pieces = logs("latest", "--json").json
    assert [piece["key"] for piece in pieces[:3]] == ["test[on=linux]", "test[on=mac]", "test[on=linux]"]
    assert all(set(piece) == {"mission", "sortie", "key", "attempt", "stream", "at", "text"} for piece in pieces)
    assert logs("latest", "--jsonl").lines == pieces


def test_a_mission_that_printed_nothing_says_so() -> None:
    fleet.launch({"one": {}})
    assert (logs("latest").out, logs("latest").err) == ("", "There is no output.\n")


def test_following_a_mission_ends_with_it() -> None:
    mission = fleet.launch({"one": {}})
    (lease,) = external_agents.claim(agent=external_agents.register(agent_type="backend").id)
    write_output(mission, "one", "a line\n")
    external_agents.complete(token=lease.token)
    assert logs("latest", "-f").out == "one | a line\n"


def test_the_api_returns_the_same_output_in_pages(mission: Mission) -> None:
    ann = api.person("ann")
    Mission.objects.filter(id=mission.id).update(created_by=ann.user)

    def get_logs(query: str = "") -> Any:
        response = ann.get(f"missions/{mission.ref}/logs{query}")
        assert response.status_code == 200, response.content
        return response.json()

    result = get_logs()
    assert [piece["key"] for piece in result["pieces"]][-2:] == ["test[on=mac]", "report"]
    assert (result["mission"], result["ended"]) == (mission.ref, False)
    assert get_logs(f"?after={result['after']}")["pieces"] == []
    assert get_logs(f"?after={result['pieces'][-2]['id']}")["pieces"] == result["pieces"][-1:]
    assert {piece["key"] for piece in get_logs("?sortie=test")["pieces"]} == {"test[on=linux]", "test[on=mac]"}
    assert ann.get(f"missions/{mission.ref}/logs?sortie=none").status_code == 404


def test_the_api_withholds_a_piece_until_older_transactions_end(mission: Mission) -> None:
    """Otherwise a reader who continues after the last id would miss what an open transaction writes before it."""
    ann = api.person("ann")
    Mission.objects.filter(id=mission.id).update(created_by=ann.user)
    sortie = Sortie.objects.get(mission=mission, key="report")
    before = ann.get(f"missions/{mission.ref}/logs").json()
    value = connection.get_connection_params()
    address = {name: value[name] for name in ("host", "port", "user", "password", "dbname")}
    with psycopg.connect(**address) as other:
        other.execute(
            "INSERT INTO missions_output (sortie_id, attempt, stream, text) VALUES (%s, 1, 'stdout', 'late')",
            [sortie.id],
        )
        write_output(mission, "report", "early")
        page = ann.get(f"missions/{mission.ref}/logs?after={before['after']}").json()
    assert page["pieces"] == []
    after = ann.get(f"missions/{mission.ref}/logs?after={before['after']}").json()
    assert [piece["text"] for piece in after["pieces"]] == ["late", "early"]
