"""The root of one attempt's processes: starts the work, outlives it, and leaves nothing of it behind.

    python -I -S …/agents/shim/__main__.py LIFELINE STATUS GRACE_S CONFINED FILE_BYTES CWD HIDDEN… -- PROGRAM ARGUMENT…

LIFELINE  descriptor of a pipe that the worker holds open. Its end, be it closed or the worker dead, means: stop.
STATUS    descriptor of a pipe to which one line of JSON is written at the end (`Status` in drivers/shim.py).
GRACE_S   seconds between SIGTERM and SIGKILL.
CONFINED  1: in the sandbox of confine.py, where the HIDDEN folders are not to be seen.
FILE_BYTES  the largest file that the work may write; 0: any.
CWD       where the work starts.

SIGTERM to this process is a stop as well. What the work leaves running when it ends is ended too.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import sys
from contextlib import suppress

from agents.shim import confine
from agents.shim.tree import Tally, end

PR_SET_CHILD_SUBREAPER = 36


class Signals:
    """Signals as something to poll for."""

    def __init__(self) -> None:
        self.stop_asked = False
        self.readable, self._writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._writable, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._ask)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def _ask(self, *_: object) -> None:
        self.stop_asked = True

    def drain(self) -> None:
        with suppress(BlockingIOError):
            os.read(self.readable, 4096)

    @staticmethod
    def forget() -> None:
        """As a program expects to find them; Python ignores SIGPIPE, and what is ignored stays so over exec."""
        signal.set_wakeup_fd(-1)
        for name in ("SIGCHLD", "SIGTERM", "SIGINT", "SIGHUP", "SIGPIPE", "SIGXFSZ"):
            signal.signal(getattr(signal, name), signal.SIG_DFL)


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
    lifeline, status = int(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(lifeline, False)
    os.set_inheritable(status, False)
    separator = sys.argv.index("--")
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signals = Signals()
    wake = select.poll()
    wake.register(lifeline, select.POLLIN)
    wake.register(signals.readable, select.POLLIN)

    pid, fault = start(
        sys.argv[separator + 1 :],
        cwd=sys.argv[6],
        confined=sys.argv[4] == "1",
        hidden=sys.argv[7:separator],
        file_bytes=int(sys.argv[5]),
    )
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # so that the worker sees the output's end when the last process of the work is gone
        os.dup2(nothing, stream)

    tally = Tally()
    while tally.reap() and pid not in tally.statuses:
        heard = {descriptor for descriptor, _ in wake.poll()}
        signals.drain()
        if lifeline in heard or signals.stop_asked:
            break
    ended = pid in tally.statuses
    wake.unregister(lifeline)  # closed by now, it would be heard all the time
    left = end(tally, float(sys.argv[3]), wake, signals.drain)
    code = os.waitstatus_to_exitcode(tally.statuses.get(pid, 0))
    stage, _, number = fault.partition(" ")
    with suppress(OSError):  # nobody hears: the worker is dead
        os.write(
            status,
            f'{{"ended": {"true" if ended else "false"}, "code": {code}, "stage": "{stage}", "errno": {number or 0}, '
            f'"cpu_s": {tally.cpu_s:.6f}, "max_rss_bytes": {tally.max_rss_bytes}, "left": {left}}}\n'.encode(),
        )
    os._exit(0)  # at once: the worker waits, and there is nothing to tidy
