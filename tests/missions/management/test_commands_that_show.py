"""fleet_mission list, show and artifacts: their text and the documented shape of their JSON."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.db.models import F

from missions.engine.process.runtime import Engine
from missions.models import Attempt, Mission, Sortie
from missions.states import MissionState, SortieState
from tests.missions.management.fleet_mission import ITEM, SUMMARY, fleet_mission
from tests.support import artifacts, fleet, web
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def test_show_has_the_documented_shape() -> None:
    mission = web.ended_mission()
    artifacts.add(Sortie.objects.get(mission=mission, key="good"), path="a/report.html", content=b"x")
    document = fleet_mission("show", mission.ref[-6:], "--json").json
    assert set(document) == SUMMARY | {"workspace", "items", "artifacts"}
    assert document["sorties"]["total"] == 3
    assert set(document["sorties"]) == {"total", *SortieState.values}
    assert all(set(item) == ITEM for item in document["items"])
    good, bad, late = document["items"]
    assert (good["state"], good["attempt"], good["error"]) == ("succeeded", 1, None)
    assert (bad["state"], bad["error"], bad["result"]) == ("failed", "it broke", None)
    assert (late["state"], late["needs"], late["started_at"]) == ("skipped", ["bad"], None)
    assert late["waits_for"]
    assert set(document["artifacts"][0]) == {"id", "sortie", "path", "digest", "size"}
    assert [item["key"] for item in fleet_mission("show", "latest", "--json", "--state", "failed").json["items"]] == [
        "bad"
    ]
    text = fleet_mission("show", "latest").out.splitlines()
    assert text[0].startswith(mission.ref)
    assert len(text) == 4


def test_list_has_the_documented_shape() -> None:
    first, second = fleet.launch({"one": {}}), fleet.launch({"one": {}})
    fleet_mission("cancel", first.ref)
    found = fleet_mission("list", "--json").json
    assert [item["id"] for item in found] == [second.ref, first.ref]
    assert all(set(item) == SUMMARY for item in found)
    assert [item["id"] for item in fleet_mission("list", "--json", "--state", "cancelled").json] == [first.ref]
    assert len(fleet_mission("list", "-n", "1").out.splitlines()) == 1 + len(["the header"])
    assert fleet_mission("list", "-n", "0", "--json").json == []


def test_an_empty_list_says_what_to_do_next() -> None:
    result = fleet_mission("list")
    assert (result.code, result.out) == (0, "")
    assert "fleet_mission run" in result.err
    assert fleet_mission("list", "--json").json == []


def test_a_list_of_zero_missions_does_not_claim_that_there_are_none() -> None:
    fleet.launch({"one": {}})
    for state in ([], ["--state", "running"]):
        result = fleet_mission("list", "-n", "0", *state)
        assert (result.code, result.out, result.err) == (0, "", "")


def test_artifacts_are_listed_and_saved_inside_the_folder(tmp_path: Path) -> None:
    mission = web.ended_mission()
    sortie = Sortie.objects.get(mission=mission, key="good")
    Sortie.objects.filter(id=sortie.id).update(key="good[p=a/../../../b]")
    artifacts.add(sortie, path="said.txt", content=b"moon")
    assert fleet_mission("artifacts", mission.ref, "--json").json[0]["size"] == 4
    assert "said.txt" in fleet_mission("artifacts", mission.ref).out
    assert fleet_mission("artifacts", mission.ref, "--save", str(tmp_path / "kept")).code == 0
    assert [file.read_bytes() for file in (tmp_path / "kept").rglob("*") if file.is_file()] == [b"moon"]
    (tmp_path / "file").touch()
    result = fleet_mission("artifacts", mission.ref, "--save", str(tmp_path / "file"))
    assert (result.code, "cannot be written" in result.err) == (1, True)


def test_the_list_has_a_header() -> None:
    mission = fleet.launch({"one": {}})
    header, row = (line.split("  ") for line in fleet_mission("list").out.splitlines())
    assert [title.strip() for title in header if title] == ["ID", "STATE", "DONE", "STARTED (UTC)", "TOOK", "NAME"]
    started = mission.created_at.strftime("%Y-%m-%d %H:%M:%S")
    assert [cell.strip() for cell in row if cell][:4] == [mission.ref, "running", "0/1", started]


def test_show_prints_how_long_each_sortie_took(engine: Engine) -> None:
    mission = fleet.launch({"one": {}})
    fleet.run_to_end(engine, mission)
    Attempt.objects.filter(sortie__mission=mission).update(finished_at=F("started_at") + timedelta(seconds=185))
    (item,) = fleet_mission("show", "latest", "--json").json["items"]
    assert item["elapsed_s"] == 185
    assert " 3 min 5 s" in fleet_mission("show", "latest").out


def test_show_does_not_number_the_attempt_of_a_sortie_that_never_ran() -> None:
    fleet.launch({"one": {}})
    assert "attempt" not in fleet_mission("show", "latest").out


def test_show_prints_when_the_next_try_starts(engine: Engine) -> None:
    mission = fleet.launch({"one": {"with": {"fail": "not yet"}, "retry": {"max_attempts": 3, "backoff": "100s"}}})
    until(lambda: (engine.run_slot(), fleet.states(mission.id)["one"] == "waiting")[1])
    (item,) = fleet_mission("show", "latest", "--json").json["items"]
    assert item["state"] == "waiting"
    assert re.fullmatch(r"retry 2/3 in (\d+ s|1 min( \d+ s)?)", item["status"])
    output = fleet_mission("show", "latest").out
    assert f"  {item['status'].partition(' in ')[0]} in " in output
    assert "waiting" not in output


def test_control_characters_of_a_mission_never_reach_the_terminal(engine: Engine) -> None:
    mission = fleet.launch({"one": {"with": {"fail": "red \x1b[31m alert\nand more"}}})
    fleet.run_to_end(engine, mission)
    for arguments in (["show", "latest"], ["watch", "latest"], ["list"]):
        result = fleet_mission(*arguments)
        assert "\x1b" not in result.out + result.err
    assert "alert and more" in fleet_mission("show", "latest").out
    assert json.loads(fleet_mission("show", "latest", "--json").out)["items"][0]["error"].startswith("red \x1b[31m")


def test_every_state_of_a_mission_can_be_listed() -> None:
    for state in MissionState:
        assert fleet_mission("list", "--state", state.value, "--json").json == []


def test_show_prints_the_origin_of_a_fork() -> None:
    forked = fleet.launch({"one": {}})
    assert len(fleet_mission("show", forked.ref).out.splitlines()) == 2
    Mission.objects.filter(id=forked.id).update(origin="fork of msn_1 at chk_1, from one")
    assert fleet_mission("show", forked.ref).out.splitlines()[1] == "  fork of msn_1 at chk_1, from one"


def test_show_aligns_its_columns_below_a_long_key() -> None:
    fleet.launch({"a-key-that-is-longer-than-the-usual-column": {}, "short": {}})
    rows = fleet_mission("show", "latest").out.splitlines()[1:]
    assert len({row.index(" backend ") for row in rows}) == 1


def test_show_aligns_its_columns_below_a_sortie_that_waits_for_a_retry(engine: Engine) -> None:
    failing = {"with": {"fail": "not yet"}, "retry": {"max_attempts": 3, "backoff": "100s"}}
    mission = fleet.launch({"flaky": failing, "other": {"needs": ["flaky"]}})
    until(lambda: (engine.run_slot(), fleet.states(mission.id)["flaky"] == "waiting")[1])
    first, second = fleet_mission("show", "latest").out.splitlines()[1:]
    assert first.index(" flaky ") == second.index(" other ")
    assert first.index(" backend ") == second.index(" backend ")
