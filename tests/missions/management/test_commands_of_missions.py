"""fleet_mission: what each of its actions shows, in which shape, and with which exit code it ends."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.db.models import F
from django.db.models.functions import Now

from fleet import ids
from missions.engine.runtime import Engine
from missions.management import mission_output
from missions.models import Attempt, Mission, Sortie
from missions.states import MissionState, SortieState
from tests.support import fleet, web
from tests.support.console import Done, manage

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

SUMMARY = {"id", "name", "objective", "state", "reason", "sorties", "created_at", "finished_at", "elapsed_s"}
ITEM = {
    "id", "key", "agent_type", "state", "attempt", "tries", "needs", "waits_for", "ready_at", "started_at", "finished_at",
    "progress", "note", "result", "error", "tolerated", "status", "wake_at", "changed_at", "elapsed_s",
}  # fmt: skip
UNKNOWN = ids.encode(ids.MISSION, ids.new())


def mission(*arguments: str) -> Done:
    return manage("fleet_mission", *arguments)


@pytest.fixture
def engine() -> Iterator[Engine]:
    started = fleet.engine()
    yield started
    started.stop(within_s=5)


@pytest.fixture
def good(tmp_path: Path) -> str:
    path = tmp_path / "good.yaml"
    path.write_text("mission: Good\ninputs: {who: {}}\nsorties:\n  one: {agent: backend, driver: scripted}\n")
    return str(path)


# ── Plans ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_valid_plan_is_told_to_be_one(good: str) -> None:
    told = mission("validate", good)
    assert (told.code, told.err) == (0, "The plan is valid: Good, 1 sortie.\n")
    assert mission("validate", good, "--json").json == {
        "valid": True,
        "name": "Good",
        "sorties": 1,
        "faults": [],
        "warnings": [],
    }


def test_every_fault_of_a_plan_is_told_as_text_and_as_json(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("mission: M\nsorties:\n  a: {agent: nobody, run: x}\n  b: {agent: backend, run: x, needs: [c]}\n")
    told = mission("validate", str(path))
    assert told.code == 2
    assert "line 3, sorties.a.agent" in told.err
    assert "line 4, sorties.b.needs" in told.err
    found = mission("validate", str(path), "--json")
    assert found.code == 2
    assert found.json["valid"] is False
    assert [fault["line"] for fault in found.json["faults"]] == [3, 4]
    assert set(found.json["faults"][0]) == {"line", "column", "where", "fault", "fix"}
    for action in ("run", "create"):
        assert mission(action, str(path)).code == 2
    assert not Mission.objects.exists()


@pytest.mark.parametrize(
    "name",
    ["no such file", "/", "/proc/self/mem", "/dev/zero", "a\udcff"],
    ids=["none", "folder", "odd", "endless", "name"],
)
def test_a_plan_that_cannot_be_read_is_wrong_usage(name: str) -> None:
    done = mission("validate", name)
    assert done.code == 2
    assert done.err.startswith("The plan ")


@pytest.mark.parametrize(
    "given", [["--param", "who"], ["--param", "=x"], ["--param", "whom=x"], ["--param", "who=a", "--param", "who=b"]]
)
def test_a_param_that_does_not_fit_is_wrong_usage(good: str, given: list[str]) -> None:
    for action in ("validate", "create", "run"):
        assert mission(action, good, *given).code == 2
    assert not Mission.objects.exists()


def test_a_created_mission_starts_when_it_is_resumed(good: str) -> None:
    created = mission("create", good, "--json")
    assert created.code == 0
    assert set(created.json) == SUMMARY
    assert created.json["state"] == "planned"
    shown = mission("show", created.json["id"], "--json").json
    assert shown["items"][0]["waits_for"] == "Waits until its mission, which is planned, is resumed."
    assert mission("resume", "latest", "--json").json["state"] == "running"


# ── To its end ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_watch_ends_with_0_for_a_mission_that_succeeded_and_5_for_one_that_did_not(engine: Engine) -> None:
    bad = web.flown()
    fine = fleet.launch({"one": {}})
    assert fleet.run_to_end(engine, fine) == "succeeded"
    assert mission("watch", fine.ref).code == 0
    done = mission("watch", bad.ref)
    assert done.code == 5
    assert "✗ bad: it broke" in done.err
    assert done.out == ""
    told = mission("watch", bad.ref, "--json")
    assert (told.code, told.json["state"]) == (5, "failed")
    assert set(told.json) == SUMMARY


def test_a_tolerated_failure_is_shown_as_such_and_not_as_a_failure(engine: Engine) -> None:
    allowed = fleet.launch({"odd": {"with": {"fail": "it may"}, "allow_failure": True}, "one": {}})
    assert fleet.run_to_end(engine, allowed) == "succeeded"
    done = mission("watch", allowed.ref)
    assert done.code == 0
    assert "○ odd tolerated: it may" in done.err  # as it changed
    assert "1 succeeded, 1 tolerated\n  ○ odd: tolerated: it may" in done.err  # at the end
    assert "✗" not in done.err
    assert "tolerated  odd" in mission("show", allowed.ref).out
    again = mission("retry", allowed.ref)
    assert again.code == 1
    assert "succeeded, or its failure is tolerated" in again.err
    assert [one["tolerated"] for one in mission("show", allowed.ref, "--json").json["items"]] == [True, False]
    assert mission("retry", allowed.ref, "odd").code == 0


def test_what_the_last_sortie_concluded_is_told_at_the_end(engine: Engine) -> None:
    top = [{"title": "First thing", "file": "a.py", "line": 7}, {"title": "Second thing"}, "odd"]
    concluded = fleet.launch({"one": {"with": {"result": {"verdict": "Well done.", "because": "It is.", "top": top}}}})
    fleet.run_to_end(engine, concluded)
    said = mission("watch", concluded.ref).err
    assert "\nWell done. It is.\n  1. First thing (a.py:7)\n  2. Second thing\n" in said
    for odd in ("text", {"verdict": 3}, {"verdict": "x", "top": "y"}, None):
        other = fleet.launch({"one": {"with": {"result": odd}}})
        fleet.run_to_end(engine, other)
        assert mission("watch", other.ref).code == 0


def test_a_wait_that_is_over_ends_with_3_and_says_how_to_come_back() -> None:
    waiting = fleet.launch({"one": {}})
    done = mission("watch", waiting.ref, "--timeout", "0")
    assert done.code == 3
    assert f"fleet_mission watch {waiting.ref}" in done.err
    assert f"fleet_mission cancel {waiting.ref}" in done.err


def test_wait_ends_where_none_runs_and_does_not_wait_for_what_is_paused() -> None:
    made = fleet.launch({"one": {}})
    assert mission("pause", made.ref).code == 0
    assert (mission("wait").code, mission("wait").err) == (0, "")


def test_its_events_are_told_one_a_line_to_the_last() -> None:
    flown = web.flown()
    events = mission("watch", flown.ref, "--jsonl").lines
    assert all(set(event) == {"id", "at", "kind", "subject", "key", "data"} for event in events)
    assert [event["id"] for event in events] == sorted(event["id"] for event in events)
    assert (events[0]["kind"], events[-1]["kind"]) == ("mission.running", "mission.failed")
    assert events[0]["subject"] == flown.ref
    failed = next(event for event in events if event["kind"] == "sortie.failed")
    assert failed["key"] == "bad"
    assert failed["subject"] == Sortie.objects.get(mission=flown, key="bad").ref


@pytest.mark.parametrize(
    "agent, given, code", [("backend", "ada", 0), ("of another fleet", "ada", 0), ("backend", "", 2)]
)
def test_a_dry_run_launches_nothing_and_refuses_what_needs_no_database(
    tmp_path: Path, agent: str, given: str, code: int
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(
        f"mission: M\ninputs: {{who: {{enum: [ada]}}}}\nsorties:\n  a: {{agent: {agent}, driver: scripted}}\n"
    )
    done = mission("run", str(path), "--param", f"who={given}", "--dry-run", "--json")
    assert (done.code, done.json["valid"]) == (code, code == 0)
    assert not Mission.objects.exists()


def test_run_detach_returns_the_summary_at_once(good: str) -> None:
    done = mission("run", good, "--detach", "--json", "--param", "who=me")
    assert done.code == 0
    assert set(done.json) == SUMMARY
    assert done.json["sorties"] == {"total": 1, **{s.value: int(s == "queued") for s in SortieState}}
    assert Mission.objects.get().inputs == {"who": "me"}


# ── Looking ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_show_has_the_documented_shape() -> None:
    flown = web.flown()
    web.artifact(Sortie.objects.get(mission=flown, key="good"), path="a/report.html", content=b"x")
    shown = mission("show", flown.ref[-6:], "--json").json
    assert set(shown) == SUMMARY | {"items", "artifacts"}
    assert shown["sorties"]["total"] == 3
    assert set(shown["sorties"]) == {"total", *SortieState.values}
    assert all(set(item) == ITEM for item in shown["items"])
    good, bad, late = shown["items"]
    assert (good["state"], good["attempt"], good["error"]) == ("succeeded", 1, None)
    assert (bad["state"], bad["error"], bad["result"]) == ("failed", "it broke", None)
    assert (late["state"], late["needs"], late["started_at"]) == ("skipped", ["bad"], None)
    assert late["waits_for"]
    assert set(shown["artifacts"][0]) == {"id", "sortie", "path", "digest", "size"}
    assert [item["key"] for item in mission("show", "latest", "--json", "--state", "failed").json["items"]] == ["bad"]
    text = mission("show", "latest").out.splitlines()
    assert text[0].startswith(flown.ref)
    assert len(text) == 4


def test_the_list_has_the_shape_of_summaries() -> None:
    first, second = fleet.launch({"one": {}}), fleet.launch({"one": {}})
    mission("cancel", first.ref)
    found = mission("list", "--json").json
    assert [one["id"] for one in found] == [second.ref, first.ref]
    assert all(set(one) == SUMMARY for one in found)
    assert [one["id"] for one in mission("list", "--json", "--state", "cancelled").json] == [first.ref]
    assert len(mission("list", "-n", "1").out.splitlines()) == 1 + len(["the header"])
    assert mission("list", "-n", "0", "--json").json == []


def test_an_empty_list_says_what_to_do_next() -> None:
    done = mission("list")
    assert (done.code, done.out) == (0, "")
    assert "fleet_mission run" in done.err
    assert mission("list", "--json").json == []


def test_a_list_of_none_says_nothing_of_missions_that_are_there() -> None:
    fleet.launch({"one": {}})
    for state in ([], ["--state", "running"]):
        done = mission("list", "-n", "0", *state)
        assert (done.code, done.out, done.err) == (0, "", "")


def test_what_a_sortie_printed_is_told_as_it_was_or_as_json(engine: Engine) -> None:
    flown = fleet.launch(
        {"one": {"run": "echo out; echo err >&2"}, "two": {"needs": ["one"], "run_at": "2090-01-01T00:00:00Z"}}
    )
    fleet.until(lambda: (engine.fly(), fleet.states(flown.id)["one"] == "succeeded")[1])
    fleet.until(lambda: mission("logs", flown.ref, "one").out == "out\n")
    assert mission("logs", flown.ref, "one").err == "err\n"
    pieces = mission("logs", flown.ref, "one", "--json").json
    assert {piece["stream"]: piece["text"] for piece in pieces} == {"stdout": "out\n", "stderr": "err\n"}
    assert all(set(piece) == {"mission", "sortie", "key", "attempt", "stream", "at", "text"} for piece in pieces)
    assert mission("logs", flown.ref, "one", "--jsonl").lines == pieces
    followed = mission("logs", flown.ref, "one", "-f", "--attempt", "1")
    assert (followed.code, followed.out) == (0, "out\n")
    assert "has not started" in mission("logs", flown.ref, "two").err
    nothing = mission("logs", flown.ref, "one", "--attempt", "2")
    assert (nothing.code, nothing.out) == (1, "")
    assert "no attempt 2" in nothing.err


def test_following_a_sortie_that_never_starts_ends_with_it() -> None:
    flown = web.flown()
    assert mission("logs", flown.ref, "late", "-f").code == 0


def test_following_a_sortie_shows_its_retries_until_it_has_ended(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    flown = fleet.launch(
        {
            "one": {
                "run": "echo attempt ${FLEET_ATTEMPT#*/}; test ${FLEET_ATTEMPT#*/} = 3",
                "retry": {"max_attempts": 3, "backoff": "0.1s"},
            }
        }
    )

    def fly(_: float) -> None:
        engine.fly()
        fleet.beat()

    monkeypatch.setattr(mission_output, "time", SimpleNamespace(sleep=fly))  # the fleet works while the command waits
    followed = mission("logs", flown.ref, "one", "-f")
    assert (followed.code, followed.out) == (0, "attempt 1\nattempt 2\nattempt 3\n")
    assert fleet.states(flown.id) == {"one": "succeeded"}


def test_following_one_attempt_ends_with_that_attempt(engine: Engine) -> None:
    flown = fleet.launch({"one": {"run": "echo first; false", "retry": {"max_attempts": 2, "backoff": "100s"}}})
    fleet.until(lambda: (engine.fly(), fleet.states(flown.id)["one"] == "waiting")[1])
    followed = mission("logs", flown.ref, "one", "-f", "--attempt", "1")
    assert (followed.code, followed.out) == (0, "first\n")


def test_that_a_sortie_printed_nothing_is_said(engine: Engine) -> None:
    flown = fleet.launch({"one": {}})
    fleet.run_to_end(engine, flown)
    shown = mission("logs", flown.ref, "one")
    assert (shown.out, shown.err) == ("", "one has printed nothing.\n")
    assert mission("logs", flown.ref, "one", "--json").err == ""


@pytest.mark.parametrize("timeout", ["200ms", "0.2", "0"])
def test_a_timeout_is_a_duration_or_a_number_of_seconds(timeout: str) -> None:
    waiting = fleet.launch({"one": {"run_at": "2100-01-01T00:00:00+00:00"}})
    assert mission("watch", waiting.ref, "--timeout", timeout).code == 3
    assert "'2 s' is not a duration; write 90s" in mission("watch", waiting.ref, "--timeout", "2 s").err


def test_artifacts_are_listed_and_saved_inside_the_folder(tmp_path: Path) -> None:
    flown = web.flown()
    sortie = Sortie.objects.get(mission=flown, key="good")
    Sortie.objects.filter(id=sortie.id).update(key="good[p=a/../../../b]")
    web.artifact(sortie, path="said.txt", content=b"moon")
    assert mission("artifacts", flown.ref, "--json").json[0]["size"] == 4
    assert "said.txt" in mission("artifacts", flown.ref).out
    assert mission("artifacts", flown.ref, "--save", str(tmp_path / "kept")).code == 0
    assert [file.read_bytes() for file in (tmp_path / "kept").rglob("*") if file.is_file()] == [b"moon"]
    (tmp_path / "file").touch()
    refused = mission("artifacts", flown.ref, "--save", str(tmp_path / "file"))
    assert (refused.code, "cannot be written" in refused.err) == (1, True)


def test_a_list_has_a_header_with_when_each_started_and_how_long_it_took() -> None:
    made = fleet.launch({"one": {}})
    header, row = (line.split("  ") for line in mission("list").out.splitlines())
    assert [title.strip() for title in header if title] == ["ID", "STATE", "DONE", "STARTED (UTC)", "TOOK", "NAME"]
    started = made.created_at.strftime("%Y-%m-%d %H:%M:%S")
    assert [cell.strip() for cell in row if cell][:4] == [made.ref, "running", "0/1", started]


def test_show_says_how_long_each_sortie_took(engine: Engine) -> None:
    flown = fleet.launch({"one": {}})
    fleet.run_to_end(engine, flown)
    Attempt.objects.filter(sortie__mission=flown).update(finished_at=F("started_at") + timedelta(seconds=185))
    (item,) = mission("show", "latest", "--json").json["items"]
    assert item["elapsed_s"] == 185
    assert " 3 min 5 s" in mission("show", "latest").out


def test_a_retry_says_which_try_comes_when(engine: Engine) -> None:
    flown = fleet.launch({"one": {"with": {"fail": "not yet"}, "retry": {"max_attempts": 3, "backoff": "100s"}}})
    fleet.until(lambda: (engine.fly(), fleet.states(flown.id)["one"] == "waiting")[1])
    (item,) = mission("show", "latest", "--json").json["items"]
    assert item["state"] == "waiting"
    assert re.fullmatch(r"retry 2/3 in (\d+ s|1 min( \d+ s)?)", item["status"])
    shown = mission("show", "latest").out
    assert f"  {item['status'].partition(' in ')[0]} in " in shown
    assert "waiting" not in shown


# ── Steering ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_step_tells_the_state_that_it_led_to() -> None:
    ref = fleet.launch({"one": {}, "two": {}}).ref
    for action, state in (("pause", "paused"), ("resume", "running")):
        assert mission(action, ref, "--json").json["state"] == state
    assert mission("cancel", ref, "one", "--json").json["sorties"]["cancelled"] == 1
    assert mission("cancel", ref, "--reason", "not wanted", "--json").json["state"] == "cancelled"
    assert mission("retry", ref, "--json").json["state"] == "running"
    assert mission("pause", ref).err == f"{ref} is paused.\n"


@pytest.mark.parametrize("action", ["cancel", "pause", "resume"])
def test_what_the_state_does_not_allow_is_an_error_with_its_reason(action: str) -> None:
    done = mission(action, web.flown().ref)
    assert done.code == 1
    assert "failed" in done.err


@pytest.mark.parametrize("action", ["show", "watch", "logs", "artifacts", "cancel", "pause", "resume", "retry"])
def test_a_mission_that_is_not_there_is_named_and_one_that_cannot_be_is_wrong_usage(action: str) -> None:
    more = ["one"] if action == "logs" else []
    for text, code in (
        (UNKNOWN, 1),
        ("latest", 1),
        ("nonsense", 1),
        ("msn_x", 2),
        ("", 2),
        ("zz", 2),
        ("a\udcff'\x1b", 1),
    ):
        done = mission(action, text, *more)
        assert done.code == code, text
        assert done.err
        assert "Error:" not in done.err
        assert "\x1b" not in done.err


@pytest.mark.parametrize("action", ["logs", "cancel", "retry"])
def test_a_sortie_that_is_not_there_is_named(action: str) -> None:
    there = fleet.launch({"one": {}})
    for text in ("two", ids.encode(ids.SORTIE, ids.new()), "a\udcff"):
        done = mission(action, "latest", text)
        assert (done.code, "has no sortie" in done.err) == (1, True), text
        assert f"See: ./manage.py fleet_mission show {there.ref}\n" in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["dance"], ["show"], ["list", "-n", "-5"], ["list", "-n", "1e9"], ["list", "--state", "happy"],
        ["watch", "latest", "--timeout", "nan"], ["watch", "latest", "--timeout", "-1"], ["logs"],
        ["list", "--watch", "x"], ["show", "latest", "--state", "happy"], ["logs", "latest", "a", "--attempt", "x"],
    ],
)  # fmt: skip
def test_wrong_usage_ends_with_2_and_the_usage(arguments: list[str]) -> None:
    done = mission(*arguments)
    assert done.code == 2
    error, usage = done.err.split("\nusage: ", 1)
    assert error.endswith(".")
    assert usage.startswith("./manage.py fleet_mission")


def test_control_characters_of_a_mission_never_reach_the_terminal(engine: Engine) -> None:
    flown = fleet.launch({"one": {"with": {"fail": "red \x1b[31m alert\nand more"}}})
    fleet.run_to_end(engine, flown)
    for arguments in (["show", "latest"], ["watch", "latest"], ["list"]):
        done = mission(*arguments)
        assert "\x1b" not in done.out + done.err
    assert "alert and more" in mission("show", "latest").out
    assert json.loads(mission("show", "latest", "--json").out)["items"][0]["error"].startswith("red \x1b[31m")


def test_every_state_of_a_mission_can_be_listed() -> None:
    for state in MissionState:
        assert mission("list", "--state", state.value, "--json").json == []


@pytest.mark.parametrize(
    ("state", "order", "said"),
    [
        ("running", "resume", "The mission is running already."),
        ("paused", "pause", "The mission is paused already."),
        ("cancelling", "cancel", "The mission is being cancelled already."),
        ("cancelling", "pause", "The mission is being cancelled; it cannot be paused."),
        ("planned", "pause", "The mission has not been started; it cannot be paused."),
        ("failed", "resume", "The mission has ended (failed); it cannot be resumed. Retry it."),
        (
            "running",
            "retry",
            "The mission is running; it cannot be retried. Wait until it has ended, or retry one of its sorties.",
        ),
    ],
)
def test_an_order_that_cannot_be_followed_says_once_how_the_mission_stands(state: str, order: str, said: str) -> None:
    mission = fleet.launch({"one": {}})
    Mission.objects.filter(id=mission.id).update(state=state, finished_at=Now() if state == "failed" else None)
    refused = manage("fleet_mission", order, mission.ref)
    assert (refused.code, refused.err.strip()) == (1, said)
