"""The filter blocks system calls with which work could escape its namespaces (agents/confinement/seccomp.py).

Namespaces isolate neither keyrings nor files with setuid bits or capabilities.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.work.confined import USERS, Place, places

pytestmark = pytest.mark.skipif(
    os.uname().machine != "x86_64", reason="the numbers of the system calls are those of x86-64"
)

KEYRINGS = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    result = libc.syscall(*arguments)
    return result if result >= 0 else -ctypes.get_errno()
SESSION = -3
print(call(248, b"user", b"fleet:test", b"x", 1, SESSION))  # add_key
print(call(249, b"user", b"fleet:test", None, SESSION))  # request_key
print(call(250, 0, SESSION, 0))  # keyctl, KEYCTL_GET_KEYRING_ID
print(call(425, 1, 0))  # io_uring_setup
"""


@pytest.fixture(params=USERS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    yield from places(request.param)


def run(place: Place, code: str) -> str:
    """The output of Python code in the sandbox."""
    result = place.run(f"cat > /tmp/code.py <<'end'\n{code}\nend\n{place.python} /tmp/code.py 2>&1")
    assert result["ok"], result
    return str(result["out"])


def test_the_work_shares_no_keyring_and_cannot_bypass_the_filter(place: Place) -> None:
    assert run(place, KEYRINGS).split() == ["-38"] * 4, "ENOSYS, as from a kernel without these calls"


RESERVING = """
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
file = os.open("space", os.O_CREAT | os.O_RDWR)
def call(*arguments):
    return libc.syscall(*arguments) and -ctypes.get_errno()
length = ctypes.c_long(1_000_000)
space = struct.pack("hhqqiI4I", 0, 0, 0, 1_000_000, 0, 0, 0, 0, 0, 0)
print(call(285, file, 0, ctypes.c_long(0), length))  # fallocate
print(call(16, file, 0x40305828, space))  # ioctl, FS_IOC_RESVSP
print(call(16, file, 0x4030582A, space))  # FS_IOC_RESVSP64
print(call(16, file, 0x40305839, space))  # FS_IOC_ZERO_RANGE
print(os.stat(file).st_blocks)
os.posix_fallocate(file, 0, 1_000_000)
print(os.stat(file).st_size)
"""


def test_the_work_cannot_reserve_disk_space_without_writing(place: Place) -> None:
    assert run(place, RESERVING).split() == ["-95"] * 4 + ["0", "1000000"], "EOPNOTSUPP; the C library writes instead"


LEASES = """
import ctypes, fcntl, os
libc = ctypes.CDLL(None, use_errno=True)
os.open("own", os.O_CREAT)
for path in (os.__file__, "own"):
    file = os.open(path, os.O_RDONLY)
    for command in (1024, 1040):  # F_SETLEASE, F_SETDELEG
        print(libc.fcntl(file, command, fcntl.F_RDLCK) and -ctypes.get_errno())
    print(libc.fcntl(file, 1025))  # F_GETLEASE
    fcntl.flock(file, fcntl.LOCK_SH)
"""


def test_the_work_cannot_make_processes_outside_wait_for_leases_on_files(place: Place) -> None:
    """The owner of a file may take a lease on it, even if it is mounted read-only. Opening it then takes 45 s."""
    assert run(place, LEASES).split() == ["-13", "-13", str(fcntl.F_UNLCK)] * 2, "EACCES; other calls of fcntl work"


FILES = r"""
import mmap, os, struct
root = os.environ["MISSION"]

def create(name, mode=0o755):
    descriptor = os.open(f"{root}/{name}", os.O_CREAT | os.O_RDWR, mode)
    os.write(descriptor, b"program")
    return descriptor

def attempt(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except OSError as error:
        return error.errno

import ctypes
libc = ctypes.CDLL(None, use_errno=True)
SUID = 0o4755
os.umask(0)
descriptor = create("chmod")
attempt(os.chmod, f"{root}/chmod", SUID)
attempt(os.chmod, "chmod", SUID, dir_fd=os.open(root, os.O_RDONLY))
attempt(os.fchmod, descriptor, SUID)
libc.syscall(452, -100, f"{root}/chmod".encode(), SUID, 0)  # fchmodat2
create("open", SUID)
os.mknod(f"{root}/mknod", 0o100000 | SUID)
os.write(os.open(f"{root}/mknod", os.O_RDWR), b"program")
descriptor = os.open(f"{root}/map", os.O_CREAT | os.O_RDWR, SUID)
os.posix_fallocate(descriptor, 0, 4096)
mmap.mmap(descriptor, 4096)[:7] = b"program"
create("capability")
attempt(os.setxattr, f"{root}/capability", "security.capability", struct.pack("<5I", 0x02000001, 1 << 21, 0, 0, 0))
"""


def test_no_file_of_the_work_gives_its_rights_to_another_user(place: Place) -> None:
    """Another user of the host who runs a setuid program in the mission's folder would become the fleet's user."""
    run(place, FILES.replace('os.environ["MISSION"]', repr(str(place.root))))
    files = {path.name: path for path in place.root.iterdir() if path.is_file()}
    assert sorted(files) == ["capability", "chmod", "map", "mknod", "open"]
    for path in files.values():
        assert path.read_bytes().startswith(b"program")
        assert path.stat().st_mode & 0o4000 == 0, path.name
        assert "security.capability" not in os.listxattr(path)
    assert place.run(f"cd {place.root}; chmod 600 open; chmod +x open; mkdir -m 700 d; install -m 711 open e")["ok"]


def test_work_as_root_cannot_set_the_setgid_bit(place: Place) -> None:
    result = place.run(f"cd {place.root}; touch file; chmod g+s file 2>/dev/null && echo setgid; true")
    assert result["out"].split() == ([] if place.user == 0 else ["setgid"]), result


OVERLAY = """
exec 2>/dev/null
mkdir upper work merged
unshare --user --map-root-user --mount sh -c '
    mount -t overlay -o "lowerdir=$1,upperdir=upper,workdir=work,userxattr" none merged && touch merged/*' sh "$1"
chmod -R u+rwX work upper
true"""


@pytest.mark.skipif(os.geteuid() != 0, reason="the setuid programs of the system belong to root")
def test_no_overlay_copies_a_setuid_program_into_the_missions_folder(place: Place, tmp_path: Path) -> None:
    """The kernel copies the mode too. The work could then replace the content through a mapping, which keeps it."""
    system = tmp_path / "system"
    system.mkdir()
    program = system / "su"
    program.write_bytes(b"program")
    program.chmod(0o4755)
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)
    result = place.run(f"cd {place.root}; set -- {system}; {OVERLAY}", readable=[str(system)])
    assert result["ok"], result
    copies = [path for path in place.root.rglob("su") if path.stat().st_mode & 0o4000]
    assert copies == []
