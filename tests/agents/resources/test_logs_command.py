"""`fleet_agents logs`: the output of an agent and of its sorties, which cannot control the terminal."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from agents.models import Agent, AgentType, LogPiece
from fleet import ids
from fleet.console import lines
from missions.engine.process.runtime import Engine
from missions.models import Mission, Sortie
from tests.support import fleet
from tests.support.console import manage
from tests.support.paths import CHECKOUT

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

MANAGE = str(CHECKOUT / "manage.py")


@pytest.fixture
def agent() -> Agent:
    return Agent.objects.create(type=AgentType.objects.get(name="backend"), state="idle", pid=1)


def write_output(agent: Agent, *texts: str) -> None:
    LogPiece.objects.bulk_create(LogPiece(agent=agent, text=text) for text in texts)


def test_the_output_of_an_agent_is_printed_in_full_or_from_its_last_lines(agent: Agent) -> None:
    write_output(agent, "one\ntwo\n", "thr", "ee\nfour\n", "five")
    assert manage("fleet_agents", "logs", agent.ref).out == "one\ntwo\nthree\nfour\nfive"
    ends = [manage("fleet_agents", "logs", agent.ref, "--lines", str(count)).out for count in range(7)]
    assert ends[:4] == ["", "five", "four\nfive", "three\nfour\nfive"]
    assert ends[5] == ends[6] == "one\ntwo\nthree\nfour\nfive"
    document = manage("fleet_agents", "logs", agent.ref, "--json").json
    assert [piece["text"] for piece in document] == ["one\ntwo\n", "thr", "ee\nfour\n", "five"]
    assert manage("fleet_agents", "logs", agent.ref, "--jsonl").lines == document
    assert [line["text"] for line in manage("fleet_agents", "logs", agent.ref, "--jsonl", "--lines", "3").lines] == [
        "thr",
        "ee\nfour\n",
        "five",
    ]


def test_an_agent_without_output_is_reported_and_an_unknown_one_is_an_error(agent: Agent) -> None:
    result = manage("fleet_agents", "logs", agent.ref)
    assert (result.code, result.out) == (0, "")
    assert f"No output of {agent.ref} is stored." in result.err
    assert manage("fleet_agents", "logs", agent.ref, "--json").json == []
    assert manage("fleet_agents", "logs", ids.encode(ids.AGENT, ids.new())).code == 1


def test_no_control_character_reaches_the_terminal(agent: Agent) -> None:
    write_output(agent, "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b[2J\ttab\r\nnext \x9b2J \u202eevil ü…\n")
    out = manage("fleet_agents", "logs", agent.ref).out
    assert out == "red ␛]0;title␇ ␛[2J\ttab\nnext �2J �evil ü…\n"
    assert lines.terminal_safe("".join(map(chr, range(0x20)))).translate({9: None, 10: None}).isprintable()


def test_it_is_followed_until_the_agent_has_ended(agent: Agent, subprocess_environment: dict[str, str]) -> None:
    write_output(agent, "early\n", "before\n")
    with subprocess.Popen(
        [sys.executable, MANAGE, "fleet_agents", "logs", agent.ref, "-f", "--lines", "1"],
        env=subprocess_environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "before\n"
        write_output(agent, "while it is followed\n")
        assert process.stdout.readline() == "while it is followed\n"
        write_output(agent, "its last words")
        Agent.objects.filter(id=agent.id).update(state="lost", ended_at=timezone.now())
        assert process.stdout.read() == "its last words"
        assert process.wait(60) == 0


def test_the_output_of_its_sorties_is_shown_by_attempt(engine: Engine) -> None:
    plan = {
        "first": {"run": "echo out; echo err >&2"},
        "second": {"run": "echo again; exit 1", "needs": ["first"], "retry": {"max_attempts": 2, "backoff": "10ms"}},
    }
    mission = fleet.launch(plan)
    fleet.run_to_end(engine, mission)
    agent = ids.encode(ids.AGENT, engine.agent)
    refs = {sortie.key: sortie.ref for sortie in Sortie.objects.filter(mission=mission)}
    result = manage("fleet_agents", "logs", agent, "--sorties")
    assert result.err == "err\n"
    assert result.out == (
        f"==> first ({refs['first']}/1) <==\nout\n"
        f"==> second ({refs['second']}/1) <==\nagain\n"
        f"==> second ({refs['second']}/2) <==\nagain\n"
    )
    document = manage("fleet_agents", "logs", agent, "--attempt", f"{refs['second']}/1", "--json").json
    assert [{**piece, "at": ""} for piece in document] == [
        {
            "mission": mission.ref,
            "sortie": refs["second"],
            "key": "second",
            "attempt": 1,
            "stream": "stdout",
            "at": "",
            "text": "again\n",
        }
    ]
    assert manage("fleet_agents", "logs", agent, "--sorties", "--lines", "3").code == 2
    lines = manage("fleet_agents", "logs", agent, "--sorties", "--jsonl").lines
    assert {(piece["key"], piece["attempt"]) for piece in lines} == {("first", 1), ("second", 1), ("second", 2)}
    assert document[0] in lines


def test_an_unknown_attempt_or_one_of_another_agent_is_refused(agent: Agent, engine: Engine) -> None:
    mission = fleet.launch({"a": {}})
    fleet.run_to_end(engine, mission)
    ref = Sortie.objects.get(mission=mission).ref
    other = manage("fleet_agents", "logs", agent.ref, "--attempt", f"{ref}/1")
    assert other.code == 1
    assert f"run by {ids.encode(ids.AGENT, engine.agent)}" in other.err
    assert "There is no attempt" in manage("fleet_agents", "logs", agent.ref, "--attempt", f"{ref}/7").err
    for reference in ("nonsense", ref, f"{ref}/", f"{ref}/-1", f"{ref}/99999999999", "srt_x/1", "\x1b[2J/1"):
        result = manage("fleet_agents", "logs", agent.ref, "--attempt", reference)
        assert result.code in {1, 2}, reference
        assert "Traceback" not in result.err
        assert "\x1b[2J" not in result.err


def test_the_sorties_of_a_live_agent_are_followed(
    engine: Engine, subprocess_environment: dict[str, str], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    mission = fleet.launch(
        {
            "a": {"run": f"echo begun; until test -e {gate}; do sleep 0.05; done; echo ended"},
            "b": {"run": "echo b", "needs": ["a"]},
        },
        folder=str(tmp_path),
    )
    thread = threading.Thread(target=_run_engine, args=(engine, mission))
    thread.start()
    with subprocess.Popen(
        [sys.executable, MANAGE, "fleet_agents", "logs", ids.encode(ids.AGENT, engine.agent), "--sorties", "-f"],
        env=subprocess_environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("==> a (srt_")
        assert process.stdout.readline() == "begun\n"
        gate.touch()
        assert process.stdout.readline() == "ended\n"
        assert process.stdout.readline().startswith("==> b (srt_")
        assert process.stdout.readline() == "b\n"
        Agent.objects.filter(id=engine.agent).update(state="terminated", ended_at=timezone.now())
        assert process.wait(60) == 0
    thread.join(60)


def _run_engine(engine: Engine, mission: Mission) -> None:
    try:
        fleet.run_to_end(engine, mission)
    finally:
        connection.close()
