"""A service ends with its supervisor, and Postgres never runs as root, even where the host refuses namespaces."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from pathlib import Path

import pytest

from fleet import errors
from fleet.host import launch
from fleet.services.providers import identity
from fleet.services.supervision.service import Identity
from tests.support.processes import forked

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
with_namespaces = pytest.mark.skipif(not identity.namespaces_work(), reason="this host refuses user namespaces")
CLONE_NEWUSER = 0x10000000


def refuse_namespaces() -> None:
    """Become the root of a user namespace that may have no further one below it, as on a host that refuses them."""
    user, group = os.getuid(), os.getgid()
    assert ctypes.CDLL(None).unshare(CLONE_NEWUSER) == 0
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        Path("/proc/self", name).write_text(text)
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
    identity.namespaces_work.cache_clear()


@as_root
@pytest.mark.parametrize("kind, user", [("same", 0), ("nobody", 65534)])
def test_a_program_runs_as_the_user_that_was_chosen(kind: Identity, user: int) -> None:
    command = identity.launch_command(["id", "-u"], identity=kind)
    assert subprocess.check_output(command, cwd="/", text=True) == f"{user}\n"


@with_namespaces
def test_a_program_in_a_namespace_is_not_root_but_its_files_belong_to_the_user(tmp_path: Path) -> None:
    def write() -> list[int]:
        launch.enter_namespace()
        (tmp_path / "file").touch()
        return [os.getuid(), os.getgid()]

    assert forked.run(write) == [launch.NOBODY, launch.NOBODY]
    assert (tmp_path / "file").stat().st_uid == os.getuid()


def test_a_service_gets_its_signal_when_the_supervisor_dies() -> None:
    """The supervisor is a fork, and its service a fork of that one."""
    receiver, sender = os.pipe()

    def supervise() -> None:
        ready, is_ready = os.pipe()
        supervisor = os.getpid()
        if os.fork() == 0:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
            launch.follow_parent(supervisor, signal.SIGUSR1)
            os.write(is_ready, b"1")
            number = signal.sigwait([signal.SIGUSR1])
            os.write(sender, signal.Signals(number).name.encode())
            os._exit(0)
        os.read(ready, 1)

    forked.run(supervise)
    os.close(sender)
    with open(receiver) as pipe:
        assert pipe.read() == "SIGUSR1"


def test_a_service_whose_supervisor_has_already_died_does_not_start() -> None:
    command = identity.launch_command(["echo", "started"])
    position = command.index(str(os.getpid()))
    command[position] = "1"  # the pid of a supervisor that is not the parent any more
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", "The parent process 1 has ended.\n")


@as_root
def test_a_cluster_of_nobody_is_used_as_nobody(tmp_path: Path) -> None:
    identity.set_owner(tmp_path, "nobody")
    assert identity.for_postgres(tmp_path, Path("/usr/bin/postgres")) == "nobody"


@as_root
@with_namespaces
def test_root_runs_postgres_in_a_namespace_and_where_that_is_refused_as_nobody(tmp_path: Path) -> None:
    def choose() -> str:
        refuse_namespaces()
        return identity.for_postgres(tmp_path, Path("/usr/bin/env"))

    assert identity.for_postgres(tmp_path, Path("/usr/bin/env")) == "namespace"
    assert forked.run(choose) == "nobody"


@as_root
@with_namespaces
def test_a_postgres_that_nobody_could_reach_is_refused_with_the_folder(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "bin").mkdir(parents=True)
    closed.chmod(0o700)
    tmp_path.chmod(0o755)

    def choose() -> str:
        refuse_namespaces()
        with pytest.raises(errors.Unavailable) as refusal:
            identity.for_postgres(tmp_path / "data", closed / "bin" / "postgres")
        return str(refusal.value)

    assert f"only root may enter {closed}" in forked.run(choose)
