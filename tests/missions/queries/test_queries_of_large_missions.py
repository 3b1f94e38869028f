"""A mission of any size is shown with little memory and a bounded number of queries."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from missions.management import mission_output
from missions.models import Mission, Sortie
from missions.queries import sortie_json
from tests.support import fleet, web
from tests.support.console import manage

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

NUMBER = 10_000


@pytest.fixture
def large() -> Mission:
    """Ten thousand sorties, the last of which needs all others; three have failed, two run."""
    names = [f"s{n}" for n in range(NUMBER - 1)]
    mission = fleet.launch({**{name: {} for name in names}, "join": {"needs": names}})
    some = list(Sortie.objects.filter(mission=mission, key__in=["s7", "s8", "s9"]).values_list("id", flat=True))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE missions_sortie SET state = 'failed', finished_at = now() WHERE id = ANY (%s)", [some])
    return mission


def test_showing_a_large_mission_takes_little_memory_and_few_queries(large: Mission, tmp_path: Path) -> None:
    result = manage("fleet_mission", "show", large.ref)
    assert "10,000 sorties: 1 pending, 9,996 queued, 3 failed" in result.out
    assert [line.split()[1] for line in result.out.splitlines() if line.startswith("  failed")] == ["s7", "s8", "s9"]
    assert "9,997 more are not shown. --state STATE shows" in result.out
    assert len(result.out.splitlines()) == 6

    json_file = tmp_path / "shown.json"
    with CaptureQueriesContext(connection) as response, json_file.open("w") as file:
        tracemalloc.start()
        mission_output.mission_as_json(mission=large, states=None, write=file.write)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert json_file.stat().st_size > 3_000_000
    assert peak < 8_000_000
    assert len(response) < 3 * NUMBER / sortie_json.PAGE + 10

    board = sortie_json.notable(large, total=NUMBER, limit=30)
    assert [item["key"] for item in board] == ["s7", "s8", "s9"]
    waits = list(sortie_json.of_mission(large, states=["pending"], results=False))
    assert waits[0]["waits_for"] == "Waits for s0, s1, s2, s3, s4 and 9991 more."

    document = json.loads(json_file.read_text())
    assert [item["key"] for item in document["items"]] == [*(f"s{n}" for n in range(NUMBER - 1)), "join"]
    assert document["items"][-1]["needs"] == [f"s{n}" for n in range(NUMBER - 1)]


def test_the_api_returns_sorties_in_pages_with_links() -> None:
    mission = fleet.launch({f"s{n}": {} for n in range(7)})
    boss = web.superuser()
    page = boss.get(f"/api/v1/missions/{mission.ref}/sorties?limit=3").json()
    keys = [item["key"] for item in page["results"]]
    while page["next"]:
        page = boss.get(page["next"]).json()
        keys += [item["key"] for item in page["results"]]
    assert keys == [f"s{n}" for n in range(7)]
    assert boss.get(f"/api/v1/missions/{mission.ref}/sorties?cursor=cD0x").status_code == 422, (
        "the next page starts at `after`"
    )


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=x", "limit=201", "limit=", "limit=99999999999"])
def test_an_invalid_limit_is_refused(query: str) -> None:
    mission = fleet.launch({"one": {}})
    response = web.superuser().get(f"/api/v1/missions/{mission.ref}/sorties?{query}")
    assert (response.status_code, response.json()["code"]) == (422, "invalid")


@pytest.mark.parametrize("after, status", [("srt_x", 422), ("nobody", 404), ("%00", 422), ("%ff", 404)])
def test_an_unknown_cursor_is_refused(after: str, status: int) -> None:
    mission = fleet.launch({"one": {}})
    assert web.superuser().get(f"/api/v1/missions/{mission.ref}/sorties?after={after}").status_code == status


def test_the_end_of_an_id_finds_a_mission_unless_it_is_ambiguous() -> None:
    mission = fleet.launch({"one": {}})
    end = mission.ref[-8:]
    assert manage("fleet_mission", "show", end, "--json").json["id"] == mission.ref
    Mission.objects.create(id=UUID(int=mission.id.int ^ 1 << 70), name="Another", state="running")
    result = manage("fleet_mission", "show", end)
    assert (result.code, "Several missions end in" in result.err) == (1, True)
