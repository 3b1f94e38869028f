"""Whatever the work puts at FLEET_RESUME, its agent does not follow it, wait for it or fail because of it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from agents.confinement.attempt_limits import Limits, StopReason
from agents.drivers.resume import POLL_S
from tests.support.waiting import until
from tests.support.work.driver_runs import DriverRun, brief

GOOD = {"position": 1}
TWO_POLLS_S = 2 * POLL_S + 0.2
SAVE = f"""printf '{{"position": 1}}' > "$FLEET_RESUME"; sleep {TWO_POLLS_S}; """
LEASE = """
import fcntl, os, signal, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = open(os.environ["FLEET_RESUME"], "r+")
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("leased", flush=True)
time.sleep(600)
"""
HOSTILE = {
    "a link to a file of the host": "ln -sf /etc/passwd $FLEET_RESUME",
    "a link to a device": "ln -sf /dev/zero $FLEET_RESUME",
    "a link to itself": "rm $FLEET_RESUME; ln -s $FLEET_RESUME $FLEET_RESUME",
    "a pipe": "rm $FLEET_RESUME; mkfifo $FLEET_RESUME",
    "a folder": "rm $FLEET_RESUME; mkdir $FLEET_RESUME",
    "a file of the kernel": "ln -sf /proc/self/environ $FLEET_RESUME",
    "a file without rights": "rm $FLEET_RESUME; (umask 777; printf x > $FLEET_RESUME.new; mv $FLEET_RESUME.new $FLEET_RESUME)",
    "a huge file": "truncate -s 8G $FLEET_RESUME",
    "an empty file": ": > $FLEET_RESUME",
    "half a value": """printf '{"position"' > $FLEET_RESUME""",
    "no UTF-8": r"""printf '"\377"' > $FLEET_RESUME""",
    "a value that no database stores": r"""printf '"\\u0000"' > $FLEET_RESUME""",
    "deep nesting": "head -c 60000 /dev/zero | tr '\\0' '[' > $FLEET_RESUME",
    "a long number": "head -c 60000 /dev/zero | tr '\\0' '9' > $FLEET_RESUME",
    "no folder any more": "mv $FLEET_SCRATCH/.fleet $FLEET_SCRATCH/gone; mkdir $FLEET_SCRATCH/.fleet",
}


@pytest.mark.parametrize("attack", HOSTILE.values(), ids=HOSTILE)
def test_it_does_no_harm_and_the_last_valid_value_is_kept(attack: str, tmp_path: Path) -> None:
    run = DriverRun("command", brief(tmp_path, shell=f"{SAVE}{attack}; sleep {TWO_POLLS_S}"))
    evidence = run.end(30)
    assert (evidence.finished, evidence.ok, evidence.error) == (True, True, "")
    assert run.reporter.resumes == [GOOD]
    assert run.reporter.tails["fleet"].count(b"FLEET_RESUME") <= 1


def test_a_lease_on_the_file_does_not_delay_a_stop(tmp_path: Path) -> None:
    """Opening a file on which a process holds a write lease (fcntl(2)) blocks for 45 seconds. The sandbox forbids leases,
    so this workload has none."""
    attempt_brief = brief(
        tmp_path,
        shell=f"{SAVE}exec {sys.executable} -c '{LEASE}'",
        limits=Limits(timeout_s=60, grace_s=1),
        confined=False,
    )
    run = DriverRun("command", attempt_brief)
    until(lambda: "leased" in run.reporter.out)
    time.sleep(TWO_POLLS_S)
    start = time.monotonic()
    run.stop.set(StopReason.CANCELLED)
    assert run.end().stopped is StopReason.CANCELLED
    assert time.monotonic() - start < 15
    assert run.reporter.resumes == [GOOD]


def test_files_that_change_continuously_are_read_whole_or_not_at_all(tmp_path: Path) -> None:
    attack = """
        end=$(($(date +%s) + 4))
        while test $(date +%s) -lt $end; do
            printf '{"position": 1}' > new; mv new "$FLEET_RESUME"
            rm "$FLEET_RESUME"; mkfifo "$FLEET_RESUME"; rm "$FLEET_RESUME"
            ln -s /dev/zero "$FLEET_RESUME"; rm "$FLEET_RESUME"
        done; true"""
    run = DriverRun("command", brief(tmp_path, shell=attack))
    assert run.end(60).ok
    assert all(value == GOOD for value in run.reporter.resumes)


def test_a_file_that_is_rewritten_in_place_is_read_when_it_is_valid_again(tmp_path: Path) -> None:
    work = """
        printf '{"position": 1}' > "$FLEET_RESUME"; sleep 1.2
        printf '{"pos' > "$FLEET_RESUME"; sleep 1.2
        printf '{"position": 2}' > "$FLEET_RESUME"; sleep 1.2
        printf '{"position": 3}' > "$FLEET_RESUME"; printf '{' > "$FLEET_RESUME" """
    run = DriverRun("command", brief(tmp_path, shell=work))
    assert run.end(60).ok
    assert run.reporter.resumes == [GOOD, {"position": 2}]
    assert b"(FLEET_RESUME) is not JSON" in run.reporter.tails["fleet"]
