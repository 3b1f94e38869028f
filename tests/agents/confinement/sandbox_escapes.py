"""Runs inside the sandbox: tries to reach what is hidden, and prints what each way found, as JSON {way: text}.

python -I -S sandbox_escapes.py HIDDEN_FOLDER WORKER_PID
"""

from __future__ import annotations

import ctypes
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

hidden, worker = Path(sys.argv[1]), int(sys.argv[2])
shim = os.getppid()
libc = ctypes.CDLL(None, use_errno=True)
PTRACE_SEIZE, PTRACE_ATTACH, MNT_DETACH, MS_BIND = 0x4206, 16, 2, 4096
IN_NEW_SPACE = ["unshare", "--user", "--map-root-user", "--mount", "--propagation", "unchanged", "sh", "-c"]


def read(path: object) -> str:
    return Path(str(path)).read_bytes().decode("utf-8", "replace")[:20_000]


def shell(text: str) -> str:
    return subprocess.run([*IN_NEW_SPACE, text], capture_output=True, text=True).stdout


def uncover(flags: int) -> str:
    if libc.umount2(os.fsencode(hidden), flags) != 0:
        raise OSError(ctypes.get_errno(), "umount")
    return read(hidden / "secret")


def attach(pid: int) -> str:
    if libc.ptrace(PTRACE_SEIZE, pid, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    return "attached"


def disks() -> str:
    opened = []
    for path in Path("/dev").iterdir():
        if stat.S_ISBLK(path.lstat().st_mode):
            try:
                opened.append(read_some(path))
            except OSError:
                continue
    return "".join(opened)


def read_some(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(4096).hex()


def make_disk() -> str:
    os.mknod("disk", 0o600 | stat.S_IFBLK, os.makedev(254, 0))
    return read_some(Path("disk"))


def every_namesake() -> str:
    """Through the root folders of all processes on the host."""
    found = ""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found += read(f"{entry}/root{hidden}/secret")
            except OSError:
                continue
    return found


def descriptors() -> str:
    """What the open descriptors refer to or contain. Listing their numbers is allowed."""
    found = ""
    for entry in Path(f"/proc/{worker}/fd").iterdir():
        try:
            found += os.readlink(entry)
        except OSError:
            continue
    return found


ways: dict[str, Callable[[], str]] = {
    "the file": lambda: read(hidden / "secret"),
    "a list of the folder": lambda: "".join(os.listdir(hidden)),
    "the worker's environment": lambda: read(f"/proc/{worker}/environ"),
    "the shim's environment": lambda: read(f"/proc/{shim}/environ"),
    "the first process's environment": lambda: read("/proc/1/environ"),
    "the worker's root": lambda: read(f"/proc/{worker}/root{hidden}/secret"),
    "the shim's working folder": lambda: read(f"/proc/{shim}/cwd{hidden}/secret"),
    "any process's root": every_namesake,
    "the worker's descriptors": descriptors,
    "the worker's memory map": lambda: read(f"/proc/{worker}/maps"),
    "the worker's memory": lambda: read_some(Path(f"/proc/{worker}/mem")),
    "ptrace of the worker": lambda: attach(worker),
    "ptrace of the shim": lambda: attach(shim),
    "umount": lambda: uncover(0),
    "lazy umount": lambda: uncover(MNT_DETACH),
    "umount in a namespace of its own": lambda: shell(f"umount {hidden}; umount -l {hidden}; cat {hidden}/secret"),
    "bind in a namespace of its own": lambda: shell(
        f"mkdir m; mount --bind {hidden.parent} m; cat m/{hidden.name}/secret"
    ),
    "umount of all in a namespace of its own": lambda: shell(
        f"umount -a; umount -R {hidden.parent}; cat {hidden}/secret"
    ),
    "a move in a namespace of its own": lambda: shell(f"mkdir n; mount --move {hidden} n; cat {hidden}/secret"),
    "the worker's mount namespace": lambda: (
        subprocess.run(
            ["nsenter", f"--mount=/proc/{worker}/ns/mnt", "cat", str(hidden / "secret")], capture_output=True, text=True
        ).stdout
    ),
    "the raw disks": disks,
    "a disk of its own making": make_disk,
}

results = {}
for way, go in ways.items():
    try:
        results[way] = go()
    except OSError as error:
        results[way] = ""
        if error.errno is None:
            raise
sys.stdout.write(json.dumps(results))
