"""The shim's protocol: what the workload gets from it, when it stops the workload, and what it reports."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agents.confinement import seccomp
from tests.support.waiting import until
from tests.support.work.shim_runs import ShimRun


def shell(script: str, scratch: Path, **options: Any) -> ShimRun:
    return ShimRun("/bin/sh", "-c", script, scratch=scratch, **options)


@pytest.mark.parametrize(
    "script, code", [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", -signal.SIGKILL), ("kill -13 $$", -signal.SIGPIPE)]
)
def test_the_exit_code_and_the_output_are_those_of_the_workload(tmp_path: Path, script: str, code: int) -> None:
    status, output = shell(f"echo out; echo error >&2; {script}", tmp_path).end()
    assert output == "out\nerror\n"
    assert (status["ended"], status["expired"], status["code"]) == (True, False, code)
    assert (status["stage"], status["survivors"], status["leftovers"], status["outputs"]) == ("", 0, 0, [])


@pytest.mark.parametrize(
    "program, text, mode, stage, number",
    [
        ("missing", None, 0, "program", errno.ENOENT),
        ("./missing", None, 0, "program", errno.ENOENT),
        ("./script", "#!/no/such/interpreter\n", 0o755, "interpreter", errno.ENOENT),
        ("./script", "#!/bin/sh\n", 0o644, "program", errno.EACCES),
        ("./script", "no program", 0o755, "program", errno.ENOEXEC),
    ],
)
def test_a_program_that_cannot_be_started_is_reported_with_the_cause(
    tmp_path: Path, program: str, text: str | None, mode: int, stage: str, number: int
) -> None:
    if text is not None:
        (tmp_path / program).write_text(text)
        (tmp_path / program).chmod(mode)
    status, _ = ShimRun(program, scratch=tmp_path).end()
    assert (status["stage"], status["errno"]) == (stage, number)


def test_a_folder_that_is_gone_is_reported_as_such(tmp_path: Path) -> None:
    status, _ = shell("true", tmp_path, cwd=tmp_path / "gone").end()
    assert (status["stage"], status["errno"]) == ("cwd", errno.ENOENT)


def test_the_workload_gets_its_own_variables_and_nothing_else_of_the_shim(tmp_path: Path) -> None:
    status, output = shell("env; echo --; ls /proc/self/fd", tmp_path, env={"TEXT": "two\nlines=1"}).end()
    variables, _, descriptors = output.partition("--\n")
    assert status["code"] == 0
    assert "TEXT=two\nlines=1\n" in variables
    assert {line.partition("=")[0] for line in variables.splitlines()} <= {"PATH", "TEXT", "lines", "PWD", "SHLVL", "_"}
    assert descriptors.split() == ["0", "1", "2", "3"], "the last one is that of ls"


def test_the_workload_blocks_and_ignores_no_signal(tmp_path: Path) -> None:
    ignoring = ("sh", "-c", "trap '' HUP USR1 RTMAX; exec \"$@\"", "sh")
    _, output = shell("cat /proc/self/status", tmp_path, prefix=ignoring).end()
    masks = dict(line.split(":\t") for line in output.splitlines() if line.startswith("Sig"))
    resettable = sum(1 << (number - 1) for number in signal.valid_signals())  # others belong to the C library
    assert [int(masks[name], 16) & resettable for name in ("SigBlk", "SigIgn", "SigCgt")] == [0, 0, 0]


def test_limits_apply_to_the_workload(tmp_path: Path) -> None:
    script = "ulimit -n; head -c 3000 /dev/zero > large; echo $?"
    _, output = shell(script, tmp_path, open_files=64, file_bytes=2000).end()
    assert output.splitlines()[0] == "64"
    assert output.splitlines()[-1] != "0"
    assert (tmp_path / "large").stat().st_size == 2000


def test_a_limit_that_the_host_sets_lower_stays(tmp_path: Path) -> None:
    limited = ("prlimit", "--nofile=40:50")
    if shutil.which(limited[0]) is None:
        pytest.skip("this host has no prlimit")
    _, output = shell("ulimit -n", tmp_path, open_files=64, prefix=limited).end()
    assert output == "50\n"


@pytest.mark.parametrize("how", ["lifeline", signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_lets_the_workload_clean_up(tmp_path: Path, how: Any) -> None:
    run = shell("trap 'echo cleaned up; exit 7' TERM; touch ready; while :; do sleep 0.05; done", tmp_path)
    until((tmp_path / "ready").exists)
    if how == "lifeline":
        run.stop()
    else:
        run.process.send_signal(how)
    status, output = run.end()
    assert output.endswith("cleaned up\n")
    assert (status["ended"], status["expired"], status["code"], status["survivors"]) == (False, False, 7, 0)


def test_a_workload_that_resists_is_killed_with_everything_that_it_started(tmp_path: Path) -> None:
    script = "trap '' TERM; setsid sh -c 'trap \"\" TERM; touch ready; while :; do sleep 0.1; done' & wait; sleep 600"
    run = shell(script, tmp_path, grace_s=0.3)
    until((tmp_path / "ready").exists)
    started = time.monotonic()
    run.stop()
    status, _ = run.end()
    assert time.monotonic() - started >= 0.3
    assert (status["ended"], status["code"], status["survivors"]) == (False, -signal.SIGKILL, 0)


def test_nothing_starts_after_a_stop_or_the_end_of_the_lease(tmp_path: Path) -> None:
    stopped, _ = shell("touch begun", tmp_path, closed=True).end()
    expired, _ = shell("touch begun", tmp_path, lease_end=time.monotonic()).end()
    assert (stopped["ended"], stopped["expired"]) == (False, False)
    assert (expired["ended"], expired["expired"]) == (False, True)
    assert not (tmp_path / "begun").exists()


def test_a_lease_that_was_renewed_before_the_shim_started_counts(tmp_path: Path) -> None:
    renewed = time.monotonic() + 600
    status, _ = shell("true", tmp_path, lease_end=time.monotonic(), renewed=renewed).end()
    assert (status["ended"], status["expired"], status["code"]) == (True, False, 0)


def test_the_workload_ends_before_its_lease_unless_the_lease_is_renewed(tmp_path: Path) -> None:
    ends = time.monotonic() + 2
    run = shell("touch ready; trap '' TERM; while :; do sleep 0.1; done", tmp_path, lease_end=ends, grace_s=0.2)
    until((tmp_path / "ready").exists)
    run.renew(ends + 0.7)
    run.renew(ends - 1)  # a late one does not shorten it
    status, _ = run.end()
    assert ends < time.monotonic()
    assert (status["ended"], status["expired"], status["code"]) == (False, True, -signal.SIGKILL)


def test_processes_that_write_to_the_output_may_finish_and_others_are_ended(tmp_path: Path) -> None:
    script = "(sleep 0.4; echo late) & setsid sleep 600 >/dev/null 2>&1 & exit 0"
    status, output = shell(script, tmp_path, linger_s=20).end()
    assert output == "late\n"
    assert (status["ended"], status["code"], status["leftovers"], status["survivors"]) == (True, 0, 1, 0)


def test_processes_that_write_for_too_long_are_ended(tmp_path: Path) -> None:
    status, output = shell("(sleep 600; echo late) & echo done", tmp_path, linger_s=0.2).end()
    assert output == "done\n"
    assert status["ended"]
    assert status["leftovers"] == 2


def test_a_stop_does_not_wait_for_processes_that_linger(tmp_path: Path) -> None:
    run = shell("(touch ready; sleep 600) & exit 0", tmp_path, linger_s=600)
    until((tmp_path / "ready").exists)
    run.stop()
    status, _ = run.end()
    assert status["survivors"] == 0


def test_cpu_time_and_memory_of_all_processes_are_reported(tmp_path: Path) -> None:
    code = "data = b'x' * 50_000_000; sum(range(2_000_000))"
    status, _ = shell(f'"{sys.executable}" -c "{code}" & wait', tmp_path).end()
    assert status["cpu_s"] > 0.01
    assert status["max_rss_bytes"] > 50_000_000


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """The scratch folder, another working directory, and the outbox."""
    paths = {"scratch": tmp_path / "scratch", "cwd": tmp_path / "cwd", "outbox": tmp_path / "outbox"}
    for path in paths.values():
        path.mkdir()
    return paths


def test_outputs_are_copied_from_the_scratch_folder_and_then_from_the_working_directory(
    folders: dict[str, Path],
) -> None:
    (folders["scratch"] / "both").write_text("scratch")
    script = "mkdir deep; echo written > deep/file; echo cwd > both"
    status, _ = shell(script, **folders, outputs=["both", "deep/file"]).end()
    assert status["outputs"] == [0, 0]
    assert {path.name: path.read_text() for path in folders["outbox"].iterdir()} == {"0": "scratch", "1": "written\n"}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folders["outbox"].iterdir())


def test_an_output_that_is_missing_too_large_or_no_file_is_reported_and_leaves_nothing(
    folders: dict[str, Path],
) -> None:
    script = (
        "mkdir folder; mkfifo pipe; ln -s /etc/passwd link; ln -s link loop; head -c 2000 /dev/zero > large; touch fine"
    )
    outputs = ["missing", "fine/file", "folder", "pipe", "link", "loop", "large", "fine"]
    status, _ = shell(script, **folders, outputs=outputs, output_bytes=1000).end()
    assert status["outputs"] == [
        *(errno.ENOENT, errno.ENOENT, errno.EINVAL, errno.EINVAL, errno.EINVAL, errno.EINVAL, errno.E2BIG, 0)
    ]
    assert [path.name for path in folders["outbox"].iterdir()] == ["7"]


def test_outputs_together_are_no_larger_than_the_limit(folders: dict[str, Path]) -> None:
    script = "for name in a b c; do head -c 600 /dev/zero > $name; done"
    status, _ = shell(script, **folders, outputs=["a", "b", "c"], file_bytes=1500).end()
    assert status["outputs"] == [0, 0, errno.E2BIG]


def test_a_workload_that_failed_has_no_outputs(folders: dict[str, Path]) -> None:
    status, _ = shell("touch file; exit 1", **folders, outputs=["file"]).end()
    assert (status["code"], status["outputs"]) == (1, [])
    assert not list(folders["outbox"].iterdir())


def test_a_stop_ends_the_copying_of_outputs(folders: dict[str, Path]) -> None:
    size = 40_000_000_000  # sparse: it takes minutes to copy, but no time to write
    run = shell(f"truncate -s {size} large", **folders, outputs=["large"], output_bytes=size)
    until(lambda: list(folders["outbox"].iterdir()))
    run.stop()
    status, _ = run.end()
    assert (status["ended"], status["outputs"]) == (True, [errno.ECANCELED])
    assert not list(folders["outbox"].iterdir())


def test_the_system_call_filter_confines_the_workload(tmp_path: Path) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("this host has no setpriv")
    with ExitStack() as descriptors:
        at = seccomp.filter_file(descriptors, network=False)
        rules = os.pread(at, 1 << 20, 0) if at >= 0 else b""
    if not rules:
        pytest.skip("there is no filter for this machine")
    script = "touch file; chmod u+s file && echo allowed; grep Seccomp: /proc/self/status"
    _, free = shell(script, tmp_path).end()
    _, confined = shell(script, tmp_path, rules=rules, prefix=("setpriv", "--no-new-privs")).end()
    assert "allowed" in free
    assert "allowed" not in confined
    assert "Operation not permitted" in confined
    assert confined.splitlines()[-1].split() == ["Seccomp:", "2"]
