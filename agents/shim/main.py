"""The root of one attempt's processes: starts the work, outlives it, and leaves nothing of it behind.

    python -I -S …/agents/shim/__main__.py LIFELINE STATUS GRACE_S LINGER_S LEASE_END CONFINED FILE_BYTES CWD HIDDEN…
        -- PROGRAM ARGUMENT…

LIFELINE  descriptor of a pipe that the worker holds open. Each renewal of the lease comes through it (lifeline.py). Its
          end, be it closed or the worker dead, means: stop.
STATUS    descriptor of a pipe to which one line of JSON is written at the end (`Status` in drivers/shim.py).
GRACE_S   seconds between SIGTERM and SIGKILL.
LINGER_S  seconds that processes which still hold the work's output get when its main process has ended.
LEASE_END when everything must be gone unless the lease is renewed (seconds of CLOCK_MONOTONIC, which all processes of a
          host share, in any PID namespace): SIGTERM comes GRACE_S earlier. "inf": never.
CONFINED  1: in the sandbox of confine.py, where the HIDDEN folders are not to be seen.
FILE_BYTES  the largest file that the work may write; 0: any.
CWD       where the work starts.

SIGTERM to this process is a stop as well. What the work leaves running when it ends is ended too.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import time
from contextlib import suppress

from agents.shim import confine, tree
from agents.shim.lifeline import Lifeline
from agents.shim.watch import Signals, Watch

PR_SET_CHILD_SUBREAPER = 36


def bound(file_bytes: int) -> None:
    """No file that this process and its children write becomes larger (RLIMIT_FSIZE, setrlimit(2))."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    least = file_bytes if hard == resource.RLIM_INFINITY else min(file_bytes, hard)
    resource.setrlimit(resource.RLIMIT_FSIZE, (least, least))


def start(argv: list[str], *, cwd: str, confined: bool, hidden: list[str], file_bytes: int) -> tuple[int, str]:
    """Fork the work. Its pid, and where its start failed, as "stage errno"; nothing if it runs."""
    told, tell = os.pipe()  # what the child says; closed by its exec
    allowed, allow = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(allow)

        def mapped() -> bool:
            os.write(tell, b"u")
            return os.read(allowed, 1) == b"m"

        stage = "start"
        try:
            os.setsid()
            Signals.forget()
            if confined:
                stage = "sandbox"
                confine.enter(hidden, mapped=mapped)
            stage = "cwd"
            os.chdir(cwd)
            if file_bytes:
                bound(file_bytes)
            stage = "program"
            os.execvp(argv[0], list(argv))  # no descriptor but the standard ones goes with it
        except OSError as fault:
            os.write(tell, f"{stage} {fault.errno or 0}".encode())
        finally:
            os._exit(127)
    os.close(tell)
    os.close(allowed)
    said = os.read(told, 100)
    if said == b"u":
        with suppress(OSError):  # then the child hears nothing, and says so
            confine.map_identity(pid)
            os.write(allow, b"m")
        os.close(allow)
        said = os.read(told, 100)
    return pid, said.decode()


def main() -> None:
    separator = sys.argv.index("--")
    lifeline_at, status_at, grace_s, linger_s, lease_end, confined, file_bytes, cwd, *hidden = sys.argv[1:separator]
    status = int(status_at)
    os.set_inheritable(int(lifeline_at), False)
    os.set_inheritable(status, False)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signals = Signals()
    lifeline = Lifeline(int(lifeline_at), lease_end=float(lease_end))
    watch = Watch(lifeline=lifeline, signals=signals, grace_s=float(grace_s))
    watch.wait(0)  # a renewal may have come since LEASE_END was written, or the worker's end
    if watch.stops:
        report(status, tree.Tally(), ended=False, expired=watch.expired)

    pid, fault = start(
        sys.argv[separator + 1 :], cwd=cwd, confined=confined == "1", hidden=hidden, file_bytes=int(file_bytes)
    )
    output = tree.identities(1, 2)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # so that the worker sees the output's end when the last process of the work is gone
        os.dup2(nothing, stream)

    tally = tree.Tally()
    while tally.reap() and pid not in tally.statuses and not watch.stops:
        watch.wait()
    expired = watch.expired
    ended = pid in tally.statuses
    stopped: set[int] = set()
    if ended:
        tree.linger(tally, stopped, output=output, until=time.monotonic() + float(linger_s), watch=watch)
    survivors = tree.end(tally, stopped, watch=watch)
    report(
        status,
        tally,
        ended=ended,
        expired=expired and not ended,
        code=os.waitstatus_to_exitcode(tally.statuses.get(pid, 0)),
        fault=fault,
        survivors=survivors,
        leftovers=len(stopped) if ended else 0,
    )


def report(
    status: int,
    tally: tree.Tally,
    *,
    ended: bool,
    expired: bool,
    code: int = 0,
    fault: str = "",
    survivors: int = 0,
    leftovers: int = 0,
) -> None:
    """Say what came of the work, and exit at once: the worker waits, and there is nothing to tidy."""
    stage, _, number = fault.partition(" ")
    line = (  # without the json module, which would double the time to start
        f'{{"ended": {str(ended).lower()}, "expired": {str(expired).lower()}, "code": {code}, "stage": "{stage}", '
        f'"errno": {number or 0}, "cpu_s": {tally.cpu_s:.6f}, "max_rss_bytes": {tally.max_rss_bytes}, '
        f'"left": {survivors}, "leftovers": {leftovers}}}\n'
    )
    with suppress(OSError):  # nobody hears: the worker is dead
        os.write(status, line.encode())
    os._exit(0)
