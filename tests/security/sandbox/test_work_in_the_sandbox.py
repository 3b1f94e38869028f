"""Attacks by work on the fleet and on other attempts. Its mission folder contains the fleet's checkout and home.

They run as this user, and under root as the user nobody. docs/security.md lists what is allowed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agents.confinement import bubblewrap
from agents.shim.main import LANDLOCK_CREATE_RULESET
from tests.support.paths import CHECKOUT
from tests.support.work.confined import SECRET, USERS, Place, places


@pytest.fixture(params=USERS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    yield from places(request.param)


def test_renaming_the_fleets_home_does_not_uncover_it_for_the_next_attempt(place: Place) -> None:
    for folder in (place.home, place.hidden, place.home.parent):
        result = place.run(f"mv {folder} {folder}.x; mkdir -p {folder}; test ! -e {folder}.x")
        assert result["ok"], result
    assert (place.hidden / "secret").read_text() == SECRET
    assert "secret" not in place.run(f"find {place.root} 2>/dev/null")["out"]


def test_the_work_cannot_write_into_the_fleets_home_through_links_or_renames(place: Place) -> None:
    result = place.run(
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
    assert result["ok"], result
    assert result["out"] == ""
    assert sorted(path.name for path in place.hidden.iterdir()) == ["secret"]
    assert (place.hidden / "secret").read_text() == SECRET


def test_the_agent_follows_no_links_in_the_exchange_folder(place: Place) -> None:
    """The agent writes into it before the next run in the same scratch folder (verify), outside the sandbox."""
    links = f"""
        cd {place.scratch}/.fleet
        for name in stdin inputs.json progress result.json sorties.json ../.home; do
            rm -rf $name; ln -s {place.hidden}/made-by-{place.user} $name
        done
        rm -rf needs; ln -s {place.hidden} needs
        """
    place.run(links)
    assert (place.scratch / ".fleet" / "needs").is_symlink()
    with suppress(AssertionError):  # the agent may refuse to continue
        place.run("true", needs={"ports": {"port": 1}})
    assert sorted(path.name for path in place.hidden.iterdir()) == ["secret"]


def test_the_fleets_code_is_read_only_even_in_the_missions_folder(place: Place) -> None:
    code = [CHECKOUT / "agents" / "shim" / "main.py", Path(bubblewrap.program()), Path(bubblewrap.__file__).resolve()]
    result = place.run(
        "\n".join(f"(echo >> {path}) 2>/dev/null && echo wrote {path}" for path in code)
        + f"\nmv {CHECKOUT} {CHECKOUT}.x 2>/dev/null; touch {CHECKOUT}/agents/new 2>/dev/null && echo made; true",
        writable=[str(CHECKOUT.parent)] if os.geteuid() == 0 and place.user == 0 else [str(place.root)],
    )
    assert (result["ok"], result["out"]) == (True, ""), result
    assert not (CHECKOUT / "agents" / "new").exists()


def test_the_folder_of_another_attempt_is_invisible(place: Place) -> None:
    theirs = place.home / "scratch" / "theirs" / "result.json"
    outcome = place.run(f"exec 2>/dev/null; cat {theirs}; ls {theirs.parent.parent}; (echo mine > {theirs}); true")
    assert outcome["out"].split() == ["mine"], "it sees only its own folder"
    assert theirs.read_text() == "theirs"


def test_the_work_cannot_see_or_signal_processes_outside(place: Place) -> None:
    result = place.run(
        f"exec 2>/dev/null; ls -d /proc/[0-9]* | wc -l; kill -9 {os.getpid()} -1; kill -9 1; echo still here"
    )
    count, *words = result["out"].split()
    assert int(count) < 8
    assert words[-2:] in (["still", "here"], [])


def test_the_work_cannot_trace_or_read_its_shim(place: Place) -> None:
    result = place.run(
        f"""
        exec 2>/dev/null
        cat /proc/1/environ /proc/1/maps; readlink /proc/1/cwd /proc/1/exe
        for number in $(ls /proc/1/fd); do readlink /proc/1/fd/$number; (: < /proc/1/fd/$number) && echo opened; done
        {place.python} -c 'import ctypes; print("traced" if ctypes.CDLL(None).ptrace(0x4206, 1, 0, 0) == 0 else "")'
        {place.python} -c 'open("/proc/1/mem", "rb+")'
        true"""
    )
    assert result["out"].strip() == "", result


def test_the_work_cannot_mount_the_hosts_cgroups(place: Place) -> None:
    """Their owner could write to their files without any capability, and so limit or kill processes outside."""
    result = place.run(
        """
        exec 2>/dev/null
        unshare --user --map-root-user --mount --pid --fork echo a namespace of its own is allowed
        for kind in cgroup cgroup2; do
            unshare --user --map-root-user --mount --cgroup mount -t $kind none /tmp && echo $kind
            unshare --user --map-root-user --mount mount -t $kind none /tmp && echo $kind
        done
        true"""
    )
    assert result["out"].strip() == ("" if place.user == 0 else "a namespace of its own is allowed"), result


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="other architectures have only one system call ABI")
def test_the_seccomp_filter_covers_every_system_call_abi(place: Place) -> None:
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
    result = place.run(f"cat > /tmp/code.py <<'end'\n{code}\nend\n{place.python} /tmp/code.py")
    assert result["out"].split() in (["-1", "-38"], ["-38", "-38"]), result


def test_variables_of_a_plan_take_effect_only_inside_the_sandbox(place: Place) -> None:
    """A library in LD_PRELOAD would otherwise run before the sandbox is set up."""
    result = place.run(
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
    assert result["ok"], result
    pids = {int(path.suffix[1:]) for path in place.root.glob("linker.*")}
    assert pids
    assert max(pids) < 100, "only processes with pids of the sandbox's own namespace have read the variables"


def test_only_the_works_own_folders_and_the_temporary_one_are_writable(place: Place) -> None:
    result = place.run(
        """
        for folder in / /dev /etc /usr /usr/local/bin /opt /run /home /root /var /proc/sys/kernel /sys/devices/system; do
            (touch $folder/new) 2>/dev/null && echo $folder
        done
        touch /tmp/new /dev/shm/new "$HOME/new" "$FLEET_SCRATCH/new" && mktemp >/dev/null && echo "$TMPDIR"
        (echo '|/bin/false' > /proc/sys/kernel/core_pattern) 2>/dev/null && echo core_pattern; true
        """
    )
    assert result["out"].split() == ["/tmp"], result
    assert not Path("/tmp/new").exists()


def test_the_users_files_are_invisible_unless_the_plan_may_read_them(place: Place, tmp_path: Path) -> None:
    value = place.root.parent / f"{place.root.name}-given"
    value.mkdir()
    (value / "book").write_text("of mine")
    os.chmod(value, 0o755)
    try:
        shell = f"exec 2>/dev/null; cat {value}/book; (echo x >> {value}/book) 2>/dev/null; true"
        assert place.run(shell)["out"] == ""
        assert place.run(shell, readable=[str(value)])["out"] == "of mine"
        assert (value / "book").read_text() == "of mine"
        assert place.run(f"ls {place.hidden} 2>/dev/null", readable=[str(place.hidden)])["out"] == ""
    finally:
        (value / "book").unlink()
        value.rmdir()


def test_a_hidden_path_is_reported_with_the_remedy(place: Place) -> None:
    result = place.run("cat /srv/models/big.bin")
    assert "The sandbox hides /srv/models/big.bin" in result["error"]
    assert "`readable`" in result["error"]
    result = place.run("cat /usr/share/nothing-here")
    assert "hides" not in result["error"], "it would see the file if it existed"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root could read them outside the sandbox")
def test_root_in_the_sandbox_cannot_read_password_hashes(place: Place) -> None:
    assert place.run("cat /etc/shadow /etc/gshadow /etc/ssl/private/* 2>/dev/null; true")["out"] == ""


@pytest.mark.parametrize("user", USERS)
def test_with_a_network_abstract_sockets_of_the_host_are_unreachable(user: str) -> None:
    """Through that of D-Bus, work could run commands outside the sandbox."""
    if ctypes.CDLL(None).syscall(LANDLOCK_CREATE_RULESET, None, 0, 1) < 6:
        pytest.skip("this kernel cannot restrict abstract sockets")
    with socket.socket(socket.AF_UNIX) as server, contextlib.contextmanager(places)(user) as place:
        server.bind(f"\0{place.root.name}")
        server.listen()
        code = f"""
import socket, subprocess, sys
for name in ("{place.root.name}", "own"):
    server = socket.socket(socket.AF_UNIX)
    if name == "own":
        server.bind("\\0own")
        server.listen()
    code = "import socket, sys; socket.socket(socket.AF_UNIX).connect(chr(0) + sys.argv[1])"
    print(subprocess.run([sys.executable, "-c", code, name], stderr=-1).returncode)
"""
        report = place.run(f"cat > /tmp/code.py <<'end'\n{code}\nend\n{place.python} /tmp/code.py")
        assert report["out"].split() == ["1", "0"], report


LOCKED = """
import os, sys, time
os.chdir(os.environ["FLEET_SCRATCH"])
os.makedirs("a/b")
for number in range(4):
    with open(f"a/b/{number}", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 10_000_000)
print("written", flush=True)
while True:
    os.chmod("a", 0o700)
    os.chmod("a/b", 0)
    os.chmod("a", 0)
    if "once" in sys.argv:
        time.sleep(60)
"""


@pytest.mark.parametrize("timing", ["once", "again and again"])
def test_a_folder_without_permissions_counts_too(timing: str) -> None:
    with contextlib.contextmanager(places)(USERS[1]) as place:
        report = place.run(
            f"cat > $TMPDIR/code.py <<'end'\n{LOCKED}\nend\nexec {place.python} $TMPDIR/code.py {timing}",
            timeout_s=30,
            disk_bytes=20_000_000,
        )
        assert "disk limit" in report["error"] or "inaccessible so often" in report["error"], report


def test_the_work_neither_sees_nor_changes_its_cgroup(place: Place) -> None:
    """Not even if the host's whole file system is readable."""
    report = place.run("ls /sys/fs/cgroup 2>/dev/null; true")
    assert report["out"] == ""
    report = place.run(
        """
        exec 2>/dev/null
        find /sys/fs/cgroup -name '*.max' -o -name cgroup.procs -o -name cgroup.kill | while read file; do
            (echo 0 > $file) && echo $file
        done
        for folder in $(find /sys/fs/cgroup -type d); do mkdir $folder/new && echo $folder; done
        unshare --user --map-root-user --mount sh -c '
            mount -o remount,rw /sys/fs/cgroup && echo remounted
            umount /sys/fs/cgroup && echo unmounted
            for file in $(find /sys/fs/cgroup -name cgroup.procs); do echo 0 > $file && echo $file; done'
        true""",
        readable=["/"],
    )
    assert report["out"] == "", report
