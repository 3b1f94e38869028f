"""The folders, outputs and network that the sandbox gives to work, even if paths are replaced by links."""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import socket
from pathlib import Path

import pytest

from agents.confinement import host_paths
from agents.confinement.attempt_limits import Limits
from tests.support.work.confined import SECRET
from tests.support.work.driver_runs import DriverRun, brief


def test_a_writable_folder_that_became_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "folder").symlink_to(tmp_path / "secret")
    attempt_brief = brief(tmp_path / "scratch", shell="true", writable=(tmp_path / "folder",))
    evidence = DriverRun("command", attempt_brief).end()
    assert not evidence.ok
    assert "cannot be mounted in the sandbox" in evidence.error


def test_a_readable_path_that_became_a_link_is_refused(tmp_path: Path) -> None:
    """Work could create a link below FLEET_FOLDERS that a client names under `readable` at the next launch."""
    (tmp_path / "scratch").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text(SECRET)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "folder").symlink_to(tmp_path / "secret")
    (tmp_path / "project" / "file").symlink_to(tmp_path / "secret" / "key")
    for path in ("folder", "folder/key", "file"):
        shell = f"cat {tmp_path}/project/folder/key {tmp_path}/project/file {tmp_path}/secret/key"
        run = DriverRun("command", brief(tmp_path / "scratch", shell=shell, readable=(tmp_path / "project" / path,)))
        evidence = run.end()
        assert not evidence.ok
        assert SECRET not in run.reporter.out
        assert "cannot be mounted in the sandbox" in evidence.error


def test_without_network_not_even_this_host_is_reachable(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 5)"
        for network in (True, False):
            attempt_brief = brief(tmp_path, argv=("python3", "-c", code), network=network)
            assert DriverRun("command", attempt_brief).end().ok is network


def test_without_network_other_socket_families_are_blocked(tmp_path: Path) -> None:
    """A network namespace does not block AF_VSOCK, for example, which reaches the hypervisor."""
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
    evidence = DriverRun("command", brief(tmp_path, argv=("python3", "-c", code), network=False)).end()
    assert evidence.ok, evidence
    assert isinstance(evidence.result, list)
    assert set(evidence.result) <= {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK}


@pytest.mark.parametrize("folder", ["/", "/usr", "/etc", "/tmp", "/var", "/proc", "/home"])
def test_a_system_folder_cannot_be_the_folder_of_a_mission(folder: str) -> None:
    with pytest.raises(host_paths.PathRefused):
        host_paths.check_writable(Path(folder), hidden=[])


def test_a_home_folder_of_the_fleets_user_cannot_be_the_folder_of_a_mission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A workload there could write ~/.ssh/config, which the fleet's ssh obeys outside the sandbox."""
    home = tmp_path / "homes" / "ann"
    (home / "project").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    of_user_database = Path(pwd.getpwuid(os.geteuid()).pw_dir)
    for folder in (home, home.parent, of_user_database):
        with pytest.raises(host_paths.PathRefused):
            host_paths.check_writable(folder, hidden=[])
    host_paths.check_writable(home / "project", hidden=[])


def test_outputs_are_copied_from_the_sandbox_and_never_from_proc(tmp_path: Path) -> None:
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
    attempt_brief = brief(
        scratch, shell=shell, outputs=outputs, outbox=outbox, limits=Limits(timeout_s=60, output_bytes=1000)
    )
    evidence = DriverRun("command", attempt_brief).end()
    assert evidence.ok, evidence
    copied_names = [name for name, problem in zip(outputs, evidence.outputs, strict=True) if not problem]
    assert copied_names == ["good", "sub/deep", "inside"]
    assert sorted(path.read_text() for path in outbox.iterdir()) == ["deep\n", "deep\n", "good\n"]


def test_the_environment_of_another_process_cannot_be_an_output(tmp_path: Path) -> None:
    scratch, outbox = tmp_path / "scratch", tmp_path / "outbox"
    scratch.mkdir()
    outbox.mkdir()
    for cwd in (f"/proc/{os.getpid()}", "/proc/1", "/proc/self"):
        attempt_brief = brief(scratch, shell="true", cwd=Path(cwd), outputs=("environ",), outbox=outbox)
        evidence = DriverRun("command", attempt_brief).end()
        assert not evidence.ok or evidence.outputs != (0,)
        assert not list(outbox.iterdir())


def test_without_the_sandbox_the_work_sees_the_host(tmp_path: Path) -> None:
    """With confined=False the work sees the host, so the tests above are meaningful."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    (tmp_path / "scratch").mkdir()
    for confined in (True, False):
        attempt_brief = brief(tmp_path / "scratch", shell=f"cat {secret}; true", confined=confined)
        run = DriverRun("command", attempt_brief)
        run.end()
        assert (SECRET in run.reporter.out) is not confined


def test_sparse_outputs_do_not_fill_the_disk_when_they_are_copied(tmp_path: Path) -> None:
    scratch, outbox = tmp_path / "scratch", tmp_path / "outbox"
    scratch.mkdir()
    outbox.mkdir()
    outputs = tuple(str(number) for number in range(5))
    limits = Limits(timeout_s=60, disk_bytes=2_500_000, output_bytes=1_000_000)
    shell = f"truncate -s 1000000 {' '.join(outputs)}"
    evidence = DriverRun("command", brief(scratch, shell=shell, outputs=outputs, outbox=outbox, limits=limits)).end()
    assert evidence.outputs == (0, 0, errno.E2BIG, errno.E2BIG, errno.E2BIG)
    assert sum(path.stat().st_blocks * 512 for path in outbox.iterdir()) < 2_500_000


def test_a_hidden_program_is_reported_like_a_missing_one(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "there").write_text("")
    (tmp_path / "scratch" / "link").symlink_to(tmp_path / "there")
    reports = set()
    for program in ("there", "absent"):
        evidence = DriverRun("command", brief(tmp_path / "scratch", argv=(str(tmp_path / program),))).end()
        assert evidence.permanent
        reports.add(evidence.error.replace(program, "…"))
    assert len(reports) == 1
    for program, words in (
        ("./link", "was not found"),
        ("/srv/tool", "The sandbox hides /srv/tool"),
        ("/tmp/tool", "/tmp/tool is in the sandbox's own /tmp"),  # nosec B108
    ):
        evidence = DriverRun("command", brief(tmp_path / "scratch", argv=(program,))).end()
        assert words in evidence.error


def test_without_network_no_resolver_of_the_host_is_reachable(tmp_path: Path) -> None:
    """systemd-resolved answers queries through sockets in its folder, which the network namespace does not close."""
    folder = Path(host_paths.RESOLVERS[0])
    if os.geteuid() != 0 or folder.exists():
        pytest.skip("this folder cannot be created here")
    folder.mkdir(parents=True)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(folder / "io.systemd.Resolve"))
            server.listen()
            code = f"import socket; socket.socket(socket.AF_UNIX).connect('{folder}/io.systemd.Resolve')"
            for network in (True, False):
                attempt_brief = brief(tmp_path, argv=("python3", "-c", code), network=network)
                assert DriverRun("command", attempt_brief).end().ok is network
    finally:
        shutil.rmtree(folder)
