"""`fleet_mission run` at a terminal: its width, and Ctrl-C."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from missions.models import Mission
from tests.support import fleet
from tests.support.paths import CHECKOUT

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

COLUMNS = 60


def test_ctrl_c_does_not_affect_the_mission_and_lines_fit_the_terminal(
    subprocess_environment: dict[str, str], tmp_path: Path
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "mission: A mission with a name that is longer than most\nsorties:\n"
        f"  {'a_name_of_sixty_characters_' * 2}x: {{agent: documentation, run: 'true'}}\n"
    )
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    env = {name: value for name, value in subprocess_environment.items() if name not in {"CI", "NO_COLOR", "COLUMNS"}}
    process = subprocess.Popen(
        [sys.executable, str(CHECKOUT / "manage.py"), "fleet_mission", "run", str(plan)],
        env={**env, "TERM": "xterm"}, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    output = b""
    try:
        while b"0/1" not in output:
            output += os.read(controller, 65_536)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait()
    while b"Cancel it:" not in output:
        output += os.read(controller, 65_536)
    os.close(controller)
    mission = Mission.objects.get()
    assert fleet.states(mission.id) == {f"{'a_name_of_sixty_characters_' * 2}x": "queued"}
    assert mission.state == "running"
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.decode())
    board = [
        line
        for part in text.partition("\n")[2].split("The mission is still running")[0].split("\n")
        for line in part.split("\r")
    ]
    assert all(len(line) <= COLUMNS for line in board)
    assert f"fleet_mission watch {mission.ref}" in text
    assert f"fleet_mission cancel {mission.ref}" in text


def test_status_with_watch_repeats_until_ctrl_c(subprocess_environment: dict[str, str]) -> None:
    process = subprocess.Popen(
        [sys.executable, str(CHECKOUT / "manage.py"), "fleet_status", "--watch", "0.1", "--json"],
        env=subprocess_environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    assert json.loads(process.stdout.readline())["missions"] == {}
    fleet.launch({"one": {}})
    while json.loads(process.stdout.readline())["missions"] != {"running": 1}:
        pass
    process.send_signal(signal.SIGINT)
    _, output = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, "")


def test_a_closed_pipe_ends_the_command_silently(subprocess_environment: dict[str, str]) -> None:
    fleet.launch({f"s{n}": {} for n in range(2_000)})
    process = subprocess.Popen(
        [sys.executable, str(CHECKOUT / "manage.py"), "fleet_mission", "show", "latest", "--all"],
        env=subprocess_environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    assert process.stderr
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) == 141
