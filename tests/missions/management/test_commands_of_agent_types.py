"""`fleet_agents type show|set`, types that accept prompts, and a prompt program that does not exist."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from agents.models import AgentType
from fleet.audit.models import Entry
from tests.support.console import manage

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def set_backend(*options: str) -> Any:
    return manage("fleet_agents", "type", "set", "backend", *options)


def test_settings_are_changed_and_shown() -> None:
    document = set_backend("--prompt-argv", '["cat", "-"]', "--concurrency", "3", "--enabled", "off", "--json").json
    assert (document["prompt_argv"], document["concurrency"], document["enabled"]) == (["cat", "-"], 3, False)
    assert manage("fleet_agents", "type", "show", "backend", "--json").json == document
    text = manage("fleet_agents", "type", "show", "backend").out
    assert re.search(r'^prompt argv +\["cat", "-"\]$', text, re.MULTILINE)
    assert re.search(r"^enabled +off$", text, re.MULTILINE)
    entry = Entry.objects.filter(kind="agenttype.changed").order_by("-id")[0]
    assert entry.after == {"prompt_argv": ["cat", "-"], "concurrency": 3, "enabled": False}
    assert entry.actor.startswith("command:")


def test_settings_are_shown_in_two_columns_and_what_is_not_set_in_words() -> None:
    AgentType.objects.filter(name="backend").update(description="", prompt_argv=[], max_running=0, alert_silence_s=None)
    lines = manage("fleet_agents", "type", "show", "backend").out.splitlines()
    column = lines[0].index("backend")
    assert all(line[column - 1] == " " and line[column] != " " for line in lines)
    text = {line[:column].strip(): line[column:] for line in lines}
    assert text["description"] == text["prompt argv"] == text["env allow"] == "none"
    assert text["max running"] == "0 (limited only by its agents' slots)"
    assert text["memory mb"] == "0 (4 GB, or half of the host's memory if that is less)"
    assert text["alert silence s"] == "none (FLEET_ALERT_SILENCE_S applies)"
    assert (text["takes prompts"], text["live agents"]) == ("no", "0")


def test_a_limit_is_removed_with_the_word_none() -> None:
    assert set_backend("--alert-silence-s", "60", "--json").json["alert_silence_s"] == 60
    assert set_backend("--alert-silence-s", "none", "--json").json["alert_silence_s"] is None
    result = set_backend("--concurrency", "none")
    assert (result.code, "--concurrency" in result.err) == (2, True)


def test_relative_paths_start_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    result = set_backend("--readable", '["models", "./models/../models", "/srv"]')
    assert (result.code, result.err) == (0, "")
    folder = str((tmp_path / "models").resolve())
    assert AgentType.objects.get(name="backend").readable == [folder, folder, os.path.realpath("/srv")]


def test_a_path_that_does_not_exist_is_stored_with_a_warning(tmp_path: Path) -> None:
    result = set_backend("--readable", f'["{tmp_path}/gone"]')
    assert result.code == 0
    assert result.err.startswith(f"Warning: {tmp_path.resolve()}/gone does not exist on this host.")
    assert AgentType.objects.get(name="backend").readable == [f"{tmp_path.resolve()}/gone"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "No setting was given."),
        (["--prompt-argv", '"cat"'], "Pass a JSON list of strings"),
        (["--prompt-argv", "cat"], "is not JSON"),
        (["--env-allow", '["A B"]'], "Pass a JSON list of strings"),
        (["--concurrency", "0"], "concurrency"),
        (["--concurrency", "1000"], "at most 256 sorties at once"),
        (["--enabled", "perhaps"], "is neither on nor off"),
    ],
)
def test_an_invalid_setting_is_refused_with_a_hint(options: list[str], words: str) -> None:
    before = AgentType.objects.values().get(name="backend")
    result = set_backend(*options)
    assert result.code == 2
    assert words in result.err
    assert AgentType.objects.values().get(name="backend") == before


def test_an_unknown_type_is_not_found() -> None:
    result = manage("fleet_agents", "type", "show", "no-such")
    assert result.code == 1
    assert "fleet_agents types" in result.err


def test_the_list_of_types_shows_which_accept_prompts() -> None:
    set_backend("--prompt-argv", '["cat"]')
    lines = dict(line.split(maxsplit=1) for line in manage("fleet_agents", "types").out.splitlines())
    assert "takes prompts" in lines["backend"]
    assert "no prompts" in lines["testing"]


def test_turning_the_autoscaler_on_is_recorded_in_the_audit_trail() -> None:
    manage("fleet_agents", "autoscale", "backend", "--on")
    entry = Entry.objects.filter(kind="agenttype.changed").order_by("-id")[0]
    assert (entry.before, entry.after) == ({"autoscale": False}, {"autoscale": True})


def test_the_doctor_finds_a_missing_prompt_program() -> None:
    set_backend("--prompt-argv", '["no-such-program", "-p"]')
    manage("fleet_agents", "type", "set", "testing", "--prompt-argv", '["cat"]')
    manage("fleet_agents", "type", "set", "security", "--prompt-argv", '["./beside-the-plan"]')
    findings = manage("fleet_doctor", "--json").json
    prompts = {finding["name"]: finding for finding in findings if "prompts" in finding["message"]}
    assert prompts.keys() == {"backend", "testing"}
    assert prompts["testing"]["healthy"]
    assert not prompts["backend"]["healthy"]
    assert "'no-such-program'" in prompts["backend"]["message"]
    assert "fleet_agents type set backend --prompt-argv" in prompts["backend"]["remedy"]
