"""Work that exceeds its limits of memory, disk, processes or files is stopped and harms nobody else."""

from __future__ import annotations

import os
import subprocess
import textwrap
import tracemalloc
from pathlib import Path

import pytest

from agents.confinement.attempt_limits import Limits, StopReason
from agents.drivers import reaper
from missions import removal
from tests.support.waiting import until
from tests.support.work.cgroups import NO_CGROUP
from tests.support.work.driver_runs import DriverRun, brief, surviving_processes

LARGE_ENVIRONMENT = """
import ctypes, os, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.sbrk.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
size = 1 << 29
at = libc.mmap(None, size, 1, 0x4022, -1, 0)  # to read, reserving nothing
field = [0, 0, *open("/proc/self/stat").read().rpartition(")")[2].split()]
code, stack, data, words = (list(map(int, field[a - 1 : b])) for a, b in ((26, 27), (28, 28), (45, 47), (48, 49)))
new = struct.pack("<12QIi", *code, *data, libc.sbrk(0), *stack, *words, at, at + size, 0, 0, -1)
if libc.prctl(35, 14, new, len(new), 0) != 0:  # PR_SET_MM, PR_SET_MM_MAP
    sys.exit("unsupported")
print("large", flush=True)
time.sleep(60)
"""


def test_a_huge_environment_of_a_process_is_not_read_completely(tmp_path: Path) -> None:
    """The search for processes of attempts reads the environments of all processes."""
    run = DriverRun("command", brief(tmp_path, argv=("python3", "-c", LARGE_ENVIRONMENT)))
    until(lambda: run.reporter.out or run.evidence)
    if run.evidence is not None:
        pytest.skip("this kernel does not let a process replace its environment")
    tracemalloc.start()
    try:
        assert run.brief.marker in {process.marker for process in reaper.marked_processes()}, (
            "its shim keeps its environment"
        )
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
        run.stop.set(StopReason.CANCELLED)
        run.end()
    assert not surviving_processes(run.brief)


DELETED = """
import os, time
os.chdir(os.environ["FLEET_SCRATCH"])
files = []
for _ in range(4):
    files.append({opened})
    files[-1].write(b"1" * 6_000_000)
    files[-1].flush()
time.sleep(60)
"""


@pytest.mark.parametrize(
    "opened",
    ['[open("file", "wb"), os.unlink("file")][0]', 'os.fdopen(os.open(".", os.O_TMPFILE | os.O_RDWR), "wb")'],
)
def test_deleted_files_count_while_a_process_has_them_open(tmp_path: Path, opened: str) -> None:
    limits = Limits(timeout_s=20, grace_s=0.5, disk_bytes=10_000_000)
    argv = ("python3", "-c", DELETED.format(opened=opened))
    evidence = DriverRun("command", brief(tmp_path, argv=argv, limits=limits)).end()
    assert evidence.stopped is StopReason.DISK, evidence


def test_a_marker_with_a_huge_number_is_ignored(tmp_path: Path) -> None:
    attempt_brief = brief(tmp_path)
    sortie = attempt_brief.marker.partition("/")[0]
    forged = {**os.environ, "FLEET_ATTEMPT": f"{sortie}/{'1' * 5000}"}
    with subprocess.Popen(["sleep", "60"], env=forged) as process:
        try:
            assert reaper.reap_earlier(f"{sortie}/2") == set()
        finally:
            process.kill()


def test_a_fork_bomb_ends_only_its_own_attempt(tmp_path: Path) -> None:
    bomb = "f() { sleep 60 & }; i=0; while [ $i -lt 5000 ]; do f; i=$((i+1)); done; wait"
    attempt_brief = brief(tmp_path, shell=bomb, limits=Limits(timeout_s=50, grace_s=0.5, processes=200))
    evidence = DriverRun("command", attempt_brief).end()
    assert not evidence.ok
    if os.geteuid() == 0 and NO_CGROUP:  # otherwise the kernel does not count root's processes
        assert evidence.stopped is StopReason.PROCESSES
        assert "its limit is 200" in evidence.error
    assert not surviving_processes(attempt_brief)


UNMAPPED = {
    "a file in memory": """
        import os, time
        file = os.memfd_create("x")
        for _ in range(60): os.write(file, b"x" * 1_000_000)
        time.sleep(3)""",
    "a file system of its own": """
        import subprocess
        shell = "mount -t tmpfs none /tmp; head -c 60000000 /dev/zero > /tmp/file; sleep 3"
        subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", shell], check=True)""",
    "a segment of System V": """
        import ctypes, time
        libc = ctypes.CDLL(None)
        libc.shmat.restype = ctypes.c_void_p
        for _ in range(6):
            at = libc.shmat(libc.shmget(0, 10_000_000, 0o1600), None, 0)
            ctypes.memset(at, 1, 10_000_000)
            libc.shmdt(ctypes.c_void_p(at))
        time.sleep(3)""",
}


@pytest.mark.xfail(
    bool(NO_CGROUP), strict=True, reason=f"Only a cgroup counts memory that no process maps. Here: {NO_CGROUP}."
)
@pytest.mark.parametrize("kind", UNMAPPED)
def test_memory_that_no_process_maps_counts(tmp_path: Path, kind: str) -> None:
    limits = Limits(timeout_s=50, grace_s=0.5, memory_bytes=40_000_000)
    attempt_brief = brief(tmp_path, argv=("python3", "-c", textwrap.dedent(UNMAPPED[kind])), limits=limits)
    evidence = DriverRun("command", attempt_brief).end()
    assert evidence.stopped is StopReason.MEMORY, evidence


def test_a_nearly_full_disk_stops_only_the_attempt_that_fills_it(tmp_path: Path) -> None:
    """The reserve is set above the free space, so that the disk counts as nearly full."""
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    limits = Limits(timeout_s=50, grace_s=0.5, reserve_bytes=2 * free, reserve_share=20_000_000 / (2 * free))
    idle = DriverRun("command", brief(tmp_path, shell="sleep 1.5", limits=limits)).end()
    assert idle.ok, idle
    fill = "head -c 60000000 /dev/zero > large; sync; sleep 60"
    evidence = DriverRun("command", brief(tmp_path, shell=fill, limits=limits)).end()
    assert evidence.stopped is StopReason.DISK_FULL
    assert "only" in evidence.error


def test_the_size_of_the_temporary_folder_is_limited(tmp_path: Path) -> None:
    attempt_brief = brief(
        tmp_path, shell="head -c 5000000 /dev/zero > /tmp/large", limits=Limits(timeout_s=50, tmp_bytes=1_000_000)
    )
    evidence = DriverRun("command", attempt_brief).end()
    assert not evidence.ok
    assert "No space left" in evidence.error


def test_folders_that_are_too_deep_to_measure_do_not_evade_the_disk_limit(tmp_path: Path) -> None:
    nest = """
import os, time
for _ in range(1000): os.mkdir("d" * 10); os.chdir("d" * 10)
for name in range(4): open(str(name), "wb").write(b"x" * 5_000_000)
"""
    folder = tmp_path / "scratch"
    folder.mkdir()
    attempt_brief = brief(
        folder, argv=("python3", "-c", nest), limits=Limits(timeout_s=50, grace_s=0.5, disk_bytes=8_000_000)
    )
    evidence = DriverRun("command", attempt_brief).end()
    removal.remove(folder)  # pytest cannot remove it, because it recurses
    assert not evidence.ok
    assert "cannot be measured" in evidence.error


def test_the_number_of_open_files_per_process_is_limited(tmp_path: Path) -> None:
    attempt_brief = brief(tmp_path, shell='ulimit -n > "$FLEET_RESULT"', limits=Limits(timeout_s=50, open_files=100))
    assert DriverRun("command", attempt_brief).end().result == 100
