"""What work in the sandbox cannot access, and what it can: as this user, and under root as the user nobody."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.confinement.attempt_limits import StopReason
from agents.drivers.base import AttemptBrief
from tests.support.paths import CHECKOUT
from tests.support.waiting import until
from tests.support.work.confined import SECRET, USERS, Place, places
from tests.support.work.driver_runs import DriverRun, brief, surviving_processes

ESCAPES = Path(__file__).with_name("sandbox_escapes.py")
WORKER = "import os, subprocess, sys; subprocess.run([*sys.argv[1:], str(os.getpid())], check=True)"


@pytest.fixture(params=USERS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    for new_place in places(request.param):
        shutil.copy(ESCAPES, new_place.root / "escapes.py")
        yield new_place


def test_no_attack_reaches_the_fleets_credentials(place: Place) -> None:
    outcome = place.run(f"exec {place.python} -I -S {place.root}/escapes.py {place.hidden} $WORKER")
    assert outcome["ok"], outcome
    results = json.loads(outcome["out"])
    assert len(results) > 20
    assert {way: text for way, text in results.items() if text} == {}
    assert (place.hidden / "secret").read_text() == SECRET, "it is hidden only from the work"


def environments_of(attempt_brief: AttemptBrief) -> bytes:
    """The environments of an attempt's processes, as the fleet's user can read them."""
    files = [f"/proc/{pid}/environ" for pid in surviving_processes(attempt_brief)]
    return subprocess.run(["cat", *files], stdin=subprocess.DEVNULL, capture_output=True, check=False).stdout


def test_no_attack_reads_the_environment_of_another_attempt(tmp_path: Path) -> None:
    first, other = tmp_path / "one", tmp_path / "other"
    first.mkdir()
    other.mkdir()
    run = DriverRun("command", brief(first, argv=("sleep", "600"), api="http://here", token="srt_x.1.the-token-of-one"))
    try:
        until(lambda: b"the-token-of-one" in environments_of(run.brief))  # otherwise this test would prove nothing
        theirs = " ".join(f"/proc/{pid}/environ" for pid in surviving_processes(run.brief))
        look = DriverRun(
            "command", brief(other, shell=f"cat {theirs} /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; true")
        )
        assert look.end().ok
    finally:
        run.stop.set(StopReason.CANCELLED)
        run.end()
    assert f"FLEET_ATTEMPT={look.brief.marker}" in look.reporter.out, "it sees its own environment"
    assert "the-token-of-one" not in look.reporter.out


def test_the_same_attacks_succeed_without_a_sandbox(place: Place) -> None:
    """Otherwise the test above would prove nothing."""
    script = [place.python, "-I", "-S", str(ESCAPES), str(place.hidden)]
    worker = subprocess.run(
        [place.python, "-I", "-S", "-c", WORKER, *script],
        env={"PATH": os.environ["PATH"], "DATABASE_URL": SECRET},
        cwd=place.scratch,
        capture_output=True,
        check=True,
        **place.identity,
    )
    results = json.loads(worker.stdout)
    for way in (
        "the file",
        "the worker's environment",
        "the worker's root",
        "any process's root",
        "the worker's memory map",
    ):
        assert results[way], way


def test_ordinary_commands_work_in_the_sandbox(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        outcome = place.run(
            f"""set -e
            cd {place.root}; mkdir repository; cd repository
            git init -q . ; echo one > a; git add a
            git -c user.name=n -c user.email=e@e commit -qm one; git log --oneline | wc -l
            chmod 400 a; cat a; mv a b; ln -s b c; chmod 700 .; rm b
            test "$(id -u)" = {place.user}
            test "$(stat -c %u .)" = {place.user}
            {place.python} -c 'import socket; socket.create_connection(("127.0.0.1", {server.getsockname()[1]})); print("met")'
            echo x > /dev/null; head -c 3 /dev/urandom | wc -c; ps -e | grep -q . ; mktemp -d > /dev/null
            (sleep 0.01 & wait); echo end
            """,
            harden=True,
        )
    assert outcome["ok"], outcome
    assert outcome["out"].split() == ["1", "one", "met", "3", "end"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can access files of other users")
def test_root_in_the_sandbox_can_read_write_and_chown_files_of_others(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    (theirs / "file").write_text("one")
    (theirs / "file").chmod(0o400)
    for path in (theirs, theirs / "file"):
        os.chown(path, 1234, 1234)
    Place(tmp_path, sys.executable, 0).scratch.mkdir(parents=True)
    outcome = Place(tmp_path, sys.executable, 0).run(
        f"cd {theirs} && cat file && echo two > file && chown 4321:4321 file && su -s /bin/sh nobody -c 'id -u'"
    )
    assert outcome["ok"], outcome
    assert outcome["out"] == "one65534\n"
    assert (theirs / "file").stat().st_uid == 4321


def test_a_missing_hidden_folder_is_no_error(place: Place) -> None:
    shutil.rmtree(place.hidden)
    assert place.run("true")["ok"]


def test_a_hardened_worker_cannot_be_inspected_by_its_user(place: Place) -> None:
    if place.user == 0:
        pytest.skip("only the sandbox restricts root")
    look = f'import subprocess, sys, os; sys.path.insert(0, "{CHECKOUT}"); sys.path.append("{sysconfig.get_path("purelib")}")\n'
    look += "from fleet.host import processes\n"
    cat = 'subprocess.run(["cat", f"/proc/{os.getpid()}/environ"], capture_output=True).stdout'
    code = look + f"print(len({cat}) > 0)\nprocesses.forbid_inspection()\nprint(len({cat}) > 0)"
    result = subprocess.run(
        [place.python, "-B", "-c", code],
        env={"PATH": os.environ["PATH"], "DATABASE_URL": SECRET},
        capture_output=True,
        text=True,
        check=True,
        **place.identity,
    )
    assert result.stdout.split() == ["True", "False"]


def test_an_agent_that_starts_spares_work_that_a_shim_supervises(place: Place) -> None:
    """Without the sandbox, an ordinary user cannot read the environment of a shim, by which its work is found."""
    worker = place.start("touch begun; sleep 3; echo done", confined=False, fleet="one")
    until((place.scratch / "begun").exists)
    reap = subprocess.run(
        [place.python, "-c", "from agents.drivers import reaper; print(reaper.reap_orphans(fleet='one'))"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{CHECKOUT}:{sysconfig.get_path('purelib')}"},
        capture_output=True,
        text=True,
        check=True,
        **place.identity,
    )
    stdout, _ = worker.communicate()
    assert (reap.stdout, json.loads(stdout)["out"]) == ("0\n", "done\n")
