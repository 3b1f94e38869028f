"""Attacks of an attempt's work on the fleet and on other attempts, from the worst place: a mission whose folder holds the
fleet's checkout and home. As this user, and as nobody under root. What each may is in docs/security.md."""

from __future__ import annotations

import os
import socket
import subprocess
import textwrap
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agents.drivers import reaper, sandbox
from agents.drivers.base import Limits, StopReason
from missions.engine import scratch
from tests.support import fleet
from tests.support.confined import ROOT, SECRET, USERS, Place, places
from tests.support.flights import Flight, brief, left_of


@pytest.fixture(params=USERS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    yield from places(request.param)


def test_the_fleets_home_cannot_be_renamed_to_uncover_it_for_the_next(place: Place) -> None:
    for moved in (place.home, place.hidden, place.home.parent):
        told = place.run(f"mv {moved} {moved}.x; mkdir -p {moved}; test ! -e {moved}.x")
        assert told["ok"], told
    assert (place.hidden / "secret").read_text() == SECRET
    assert "secret" not in place.run(f"find {place.root} 2>/dev/null")["out"]


def test_no_link_and_no_rename_lets_the_work_write_into_the_fleets_home(place: Place) -> None:
    told = place.run(
        f"""
        exec 2>/dev/null
        for target in {place.hidden}/ports.json {place.home}/new {place.home.parent}/.fleet/private/secret; do
            echo '{{"port": 1}}' > $target && echo wrote $target
        done
        ln -s {place.hidden} {place.root}/link; cat {place.root}/link/secret
        ln {place.hidden}/secret {place.root}/hard
        rm -rf {place.home}; true
        """
    )
    assert told["ok"], told
    assert told["out"] == ""
    assert sorted(path.name for path in place.hidden.iterdir()) == ["secret"]
    assert (place.hidden / "secret").read_text() == SECRET


def test_an_exchange_folder_full_of_links_leads_the_agent_nowhere(place: Place) -> None:
    """The next flight in the same scratch folder (a verify) writes into it, unconfined."""
    links = f"""
        cd {place.scratch}/.fleet
        for name in stdin inputs.json progress result.json sorties.json ../.home; do
            rm -rf $name; ln -s {place.hidden}/made-by-{place.user} $name
        done
        rm -rf needs; ln -s {place.hidden} needs
        """
    place.run(links)
    assert (place.scratch / ".fleet" / "needs").is_symlink()
    with suppress(AssertionError):  # it may refuse to go on
        place.run("true", needs={"ports": {"port": 1}})
    assert sorted(path.name for path in place.hidden.iterdir()) == ["secret"]


def test_the_fleets_code_is_read_only_even_in_the_missions_folder(place: Place) -> None:
    code = [ROOT / "agents" / "shim" / "main.py", Path(sandbox.program()), Path(sandbox.__file__).resolve()]
    told = place.run(
        "\n".join(f"(echo >> {path}) 2>/dev/null && echo wrote {path}" for path in code)
        + f"\nmv {ROOT} {ROOT}.x 2>/dev/null; touch {ROOT}/agents/new 2>/dev/null && echo made; true",
        writable=[str(ROOT.parent)] if os.geteuid() == 0 and place.user == 0 else [str(place.root)],
    )
    assert (told["ok"], told["out"]) == (True, ""), told
    assert not (ROOT / "agents" / "new").exists()


def test_another_attempts_folder_is_not_there(place: Place) -> None:
    theirs = place.home / "scratch" / "theirs" / "result.json"
    told = place.run(f"exec 2>/dev/null; cat {theirs}; ls {theirs.parent.parent}; (echo mine > {theirs}); true")
    assert told["out"].split() == ["mine"], "only its own folder"
    assert theirs.read_text() == "theirs"


def test_it_sees_and_signals_no_process_outside(place: Place) -> None:
    told = place.run(
        f"exec 2>/dev/null; ls -d /proc/[0-9]* | wc -l; kill -9 {os.getpid()} -1; kill -9 1; echo still here"
    )
    count, *words = told["out"].split()
    assert int(count) < 8
    assert words[-2:] in (["still", "here"], [])


def test_it_neither_traces_nor_reads_the_process_that_watches_over_it(place: Place) -> None:
    told = place.run(
        f"""
        exec 2>/dev/null
        cat /proc/1/environ /proc/1/maps; readlink /proc/1/cwd /proc/1/exe
        for number in $(ls /proc/1/fd); do readlink /proc/1/fd/$number; (: < /proc/1/fd/$number) && echo opened; done
        {place.python} -c 'import ctypes; print("traced" if ctypes.CDLL(None).ptrace(0x4206, 1, 0, 0) == 0 else "")'
        {place.python} -c 'open("/proc/1/mem", "rb+")'
        true"""
    )
    assert told["out"].strip() == "", told


def test_it_mounts_no_cgroups_of_the_host(place: Place) -> None:
    """Their files take what their owner writes, whatever his capabilities: limits of processes outside, and their end."""
    told = place.run(
        """
        exec 2>/dev/null
        unshare --user --map-root-user --mount --pid --fork echo a namespace of its own is allowed
        for kind in cgroup cgroup2; do
            unshare --user --map-root-user --mount --cgroup mount -t $kind none /tmp && echo $kind
            unshare --user --map-root-user --mount mount -t $kind none /tmp && echo $kind
        done
        true"""
    )
    assert told["out"].strip() == "a namespace of its own is allowed", told


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="other machines have no second way to call")
def test_no_second_way_to_call_the_system_passes_the_filter(place: Place) -> None:
    code = r"""
import ctypes, mmap
flags = 0x12000000  # CLONE_NEWUSER | CLONE_NEWCGROUP
def called(code):
    memory = mmap.mmap(-1, 4096, prot=7)
    memory.write(code)
    return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))()
old = b"\x53\xb8" + (310).to_bytes(4, "little") + b"\xbb" + flags.to_bytes(4, "little") + b"\xcd\x80\x5b\xc3"
x32 = b"\xb8" + (272 | 1 << 30).to_bytes(4, "little") + b"\xbf" + flags.to_bytes(4, "little") + b"\x0f\x05\xc3"
print(called(old), called(x32))
"""
    told = place.run(f"cat > /tmp/code.py <<'end'\n{code}\nend\n{place.python} /tmp/code.py")
    assert told["out"].split() in (["-1", "-38"], ["-38", "-38"]), told


def test_variables_of_a_plan_change_nothing_outside_the_sandbox(place: Place) -> None:
    """What a dynamic linker loads for LD_PRELOAD would run before anything is confined."""
    told = place.run(
        "true",
        env={
            "LD_PRELOAD": f"{place.root}/evil.so",
            "LD_AUDIT": f"{place.root}/evil.so",
            "GCONV_PATH": str(place.root),
            "PYTHONPATH": str(place.root),
            "LD_DEBUG": "files",
            "LD_DEBUG_OUTPUT": f"{place.root}/linker",
        },
    )
    assert told["ok"], told
    pids = {int(path.suffix[1:]) for path in place.root.glob("linker.*")}
    assert pids
    assert max(pids) < 100, "only processes with pids of the sandbox's own namespace have read the variables"


def test_only_its_folders_and_the_temporary_one_take_files(place: Place) -> None:
    told = place.run(
        """
        for folder in / /dev /etc /usr /usr/local/bin /opt /run /home /root /var /proc/sys/kernel /sys/devices/system; do
            (touch $folder/new) 2>/dev/null && echo $folder
        done
        touch /tmp/new /dev/shm/new "$HOME/new" "$FLEET_SCRATCH/new" && mktemp >/dev/null && echo "$TMPDIR"
        (echo '|/bin/false' > /proc/sys/kernel/core_pattern) 2>/dev/null && echo core_pattern; true
        """
    )
    assert told["out"].split() == ["/tmp"], told
    assert not Path("/tmp/new").exists()


def test_the_users_files_are_not_there_unless_they_were_given(place: Place, tmp_path: Path) -> None:
    given = place.root.parent / f"{place.root.name}-given"
    given.mkdir()
    (given / "book").write_text("of mine")
    os.chmod(given, 0o755)
    try:
        shell = f"exec 2>/dev/null; cat {given}/book; (echo x >> {given}/book) 2>/dev/null; true"
        assert place.run(shell)["out"] == ""
        assert place.run(shell, readable=[str(given)])["out"] == "of mine"
        assert (given / "book").read_text() == "of mine"
        assert place.run(f"ls {place.hidden} 2>/dev/null", readable=[str(place.hidden)])["out"] == ""
    finally:
        (given / "book").unlink()
        given.rmdir()


def test_a_hidden_path_is_told_with_the_remedy(place: Place) -> None:
    told = place.run("cat /srv/models/big.bin")
    assert "The sandbox hides /srv/models/big.bin" in told["error"]
    assert "`readable`" in told["error"]
    told = place.run("cat /usr/share/nothing-here")
    assert "hides" not in told["error"], "it would see it, if it were there"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root could read it outside")
def test_root_in_the_sandbox_reads_no_password_hash(place: Place) -> None:
    assert place.run("cat /etc/shadow /etc/gshadow /etc/ssl/private/* 2>/dev/null; true")["out"] == ""


def test_a_folder_that_was_made_a_link_meanwhile_is_not_given(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "folder").symlink_to(tmp_path / "secret")
    given = brief(tmp_path / "scratch", shell="true", writable=(tmp_path / "folder",))
    evidence = Flight("command", given).end()
    assert not evidence.ok
    assert "cannot be mounted in the sandbox" in evidence.error


def test_a_readable_path_that_was_made_a_link_is_not_given(tmp_path: Path) -> None:
    """Work may put a link below FLEET_FOLDERS, and a client name it under `readable` at the next launch."""
    (tmp_path / "scratch").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text(SECRET)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "folder").symlink_to(tmp_path / "secret")
    (tmp_path / "project" / "file").symlink_to(tmp_path / "secret" / "key")
    for named in ("folder", "folder/key", "file"):
        shell = f"cat {tmp_path}/project/folder/key {tmp_path}/project/file {tmp_path}/secret/key"
        flight = Flight("command", brief(tmp_path / "scratch", shell=shell, readable=(tmp_path / "project" / named,)))
        evidence = flight.end()
        assert not evidence.ok
        assert SECRET not in flight.ear.out
        assert "cannot be mounted in the sandbox" in evidence.error


def test_without_network_nothing_answers_not_even_this_host(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 5)"
        for network in (True, False):
            given = brief(tmp_path, argv=("python3", "-c", code), network=network)
            assert Flight("command", given).end().ok is network


def test_without_network_no_other_kind_of_socket_leads_out(tmp_path: Path) -> None:
    """A network namespace does not hold back AF_VSOCK, for one, which reaches the hypervisor."""
    code = """
import ctypes, errno, json, os, socket
opened = []
for family in range(1, 64):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
        try:
            socket.socket(family, kind).close()
        except OSError:
            continue
        opened.append(family)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.syscall(425, 1, 0) == -1 and ctypes.get_errno() == errno.ENOSYS, "io_uring opens sockets too"
json.dump(sorted(set(opened)), open(os.environ["FLEET_RESULT"], "w"))
"""
    evidence = Flight("command", brief(tmp_path, argv=("python3", "-c", code), network=False)).end()
    assert evidence.ok, evidence
    assert isinstance(evidence.result, list)
    assert set(evidence.result) <= {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK}


@pytest.mark.parametrize("folder", ["/", "/usr", "/etc", "/tmp", "/var", "/proc", "/home"])
def test_what_belongs_to_all_is_no_missions_folder(folder: str) -> None:
    with pytest.raises(sandbox.Refused):
        sandbox.check_writable(Path(folder), hidden=[])


def test_outputs_are_copied_as_the_work_sees_them_and_never_from_the_kernel(tmp_path: Path) -> None:
    scratch, outbox = tmp_path / "scratch", tmp_path / "outbox"
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    scratch.mkdir()
    outbox.mkdir()
    shell = f"""
        echo good > good; mkdir sub; echo deep > sub/deep; ln -s sub/deep inside
        ln -s {secret} out; ln -s /proc/self/environ kernel; ln -s /dev/zero device; mkfifo pipe; head -c 2000 /dev/zero > large
        ln -s ../../../../../../../../proc/1/environ up
        """
    outputs = ("good", "sub/deep", "inside", "missing", "out", "kernel", "device", "pipe", "large", "up", "sub")
    given = brief(scratch, shell=shell, outputs=outputs, outbox=outbox, limits=Limits(timeout_s=60, output_bytes=1000))
    evidence = Flight("command", given).end()
    assert evidence.ok, evidence
    copied = [name for name, fault in zip(outputs, evidence.outputs, strict=True) if not fault]
    assert copied == ["good", "sub/deep", "inside"]
    assert sorted(path.read_text() for path in outbox.iterdir()) == ["deep\n", "deep\n", "good\n"]


def test_the_environment_of_a_process_outside_is_no_output(tmp_path: Path) -> None:
    scratch, outbox = tmp_path / "scratch", tmp_path / "outbox"
    scratch.mkdir()
    outbox.mkdir()
    for cwd in (f"/proc/{os.getpid()}", "/proc/1", "/proc/self"):
        given = brief(scratch, shell="true", cwd=Path(cwd), outputs=("environ",), outbox=outbox)
        evidence = Flight("command", given).end()
        assert not evidence.ok or evidence.outputs != (0,)
        assert not list(outbox.iterdir())


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


def test_an_environment_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    """Whoever looks for the processes of attempts reads the environments of all."""
    flight = Flight("command", brief(tmp_path, argv=("python3", "-c", LARGE_ENVIRONMENT)))
    fleet.until(lambda: flight.ear.out or flight.evidence)
    if flight.evidence is not None:
        pytest.skip("this kernel does not let a process name its environment")
    tracemalloc.start()
    try:
        assert flight.brief.marker in {trace.marker for trace in reaper.traces()}, "its shim's is as ever"
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
        flight.stop.set(StopReason.CANCELLED)
        flight.end()
    assert not left_of(flight.brief)


def test_a_marker_with_a_number_of_any_length_is_passed_over(tmp_path: Path) -> None:
    given = brief(tmp_path)
    sortie = given.marker.partition("/")[0]
    forged = {**os.environ, "FLEET_ATTEMPT": f"{sortie}/{'1' * 5000}"}
    with subprocess.Popen(["sleep", "60"], env=forged) as process:
        try:
            assert reaper.reap_earlier(f"{sortie}/2") == set()
        finally:
            process.kill()


def test_a_fork_bomb_ends_its_own_attempt_alone(tmp_path: Path) -> None:
    bomb = "f() { sleep 60 & }; i=0; while [ $i -lt 5000 ]; do f; i=$((i+1)); done; wait"
    given = brief(tmp_path, shell=bomb, limits=Limits(timeout_s=50, grace_s=0.5, processes=200))
    evidence = Flight("command", given).end()
    assert not evidence.ok
    if os.geteuid() == 0:
        assert evidence.stopped is StopReason.PROCESSES
        assert "its limit is 200" in evidence.error
    assert not left_of(given)


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


@pytest.mark.xfail(strict=True, reason="Memory is counted by what processes map; a cgroup would count all of it.")
@pytest.mark.parametrize("kind", UNMAPPED)
def test_memory_that_no_process_maps_counts_too(tmp_path: Path, kind: str) -> None:
    limits = Limits(timeout_s=50, grace_s=0.5, memory_bytes=40_000_000)
    given = brief(tmp_path, argv=("python3", "-c", textwrap.dedent(UNMAPPED[kind])), limits=limits)
    evidence = Flight("command", given).end()
    assert evidence.stopped is StopReason.MEMORY, evidence


def test_a_nearly_full_disk_stops_who_fills_it_and_nobody_else(tmp_path: Path) -> None:
    """The reserve is put above what is free, so that the disk counts as nearly full."""
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    limits = Limits(timeout_s=50, grace_s=0.5, reserve_bytes=2 * free, reserve_share=20_000_000 / (2 * free))
    idle = Flight("command", brief(tmp_path, shell="sleep 1.5", limits=limits)).end()
    assert idle.ok, idle
    fill = "head -c 60000000 /dev/zero > large; sync; sleep 60"
    evidence = Flight("command", brief(tmp_path, shell=fill, limits=limits)).end()
    assert evidence.stopped is StopReason.DISK_FULL
    assert "only" in evidence.error


def test_the_temporary_folder_holds_no_more_than_its_limit(tmp_path: Path) -> None:
    given = brief(
        tmp_path, shell="head -c 5000000 /dev/zero > /tmp/large", limits=Limits(timeout_s=50, tmp_bytes=1_000_000)
    )
    evidence = Flight("command", given).end()
    assert not evidence.ok
    assert "No space left" in evidence.error


def test_folders_too_deep_to_be_measured_do_not_pass_the_limit_of_the_disk(tmp_path: Path) -> None:
    nest = """
import os, time
for _ in range(1000): os.mkdir("d" * 10); os.chdir("d" * 10)
for name in range(4): open(str(name), "wb").write(b"x" * 5_000_000)
"""
    folder = tmp_path / "scratch"
    folder.mkdir()
    given = brief(folder, argv=("python3", "-c", nest), limits=Limits(timeout_s=50, grace_s=0.5, disk_bytes=8_000_000))
    evidence = Flight("command", given).end()
    scratch.remove(folder)  # pytest cannot: it recurses
    assert not evidence.ok
    assert "cannot be measured" in evidence.error


def test_each_process_opens_so_many_files_at_most(tmp_path: Path) -> None:
    given = brief(tmp_path, shell='ulimit -n > "$FLEET_RESULT"', limits=Limits(timeout_s=50, open_files=100))
    assert Flight("command", given).end().result == 100


def test_off_is_only_what_the_operator_chose(tmp_path: Path) -> None:
    """With confined=False the work sees the host; so the tests above prove something."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    (tmp_path / "scratch").mkdir()
    for confined in (True, False):
        given = brief(tmp_path / "scratch", shell=f"cat {secret}; true", confined=confined)
        flight = Flight("command", given)
        flight.end()
        assert (SECRET in flight.ear.out) is not confined
