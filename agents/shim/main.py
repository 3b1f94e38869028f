"""The root of one attempt's processes: starts the work, outlives it, and leaves nothing of it behind.

    python -I -S …/agents/shim/__main__.py LIFELINE STATUS ENVIRONMENT OUTBOX GRACE_S LINGER_S LEASE_END FILE_BYTES
        PROCESSES OPEN_FILES OUTPUT_BYTES CWD SCRATCH OUTPUTS OUTPUT… -- PROGRAM ARGUMENT…

LIFELINE  descriptor of a pipe that the worker holds open. Each renewal of the lease comes through it (lifeline.py). Its
          end, be it closed or the worker dead, means: stop.
STATUS    descriptor of a pipe to which one line of JSON is written at the end (`Status` in drivers/shim.py).
ENVIRONMENT  descriptor of a file with the work's environment, NAME=VALUE, each ended by NUL. It is not this process's own,
          because the variables of a plan (LD_PRELOAD, say) must change nothing before the work is confined.
OUTBOX    descriptor of the folder for copies of the outputs (outbox.py); -1: none. The work never has it.
GRACE_S   seconds between SIGTERM and SIGKILL.
LINGER_S  seconds that processes which still hold the work's output get when its main process has ended.
LEASE_END when everything must be gone unless the lease is renewed (seconds of CLOCK_MONOTONIC, which all processes of a
          host share, in any PID namespace): SIGTERM comes GRACE_S earlier. "inf": never.
FILE_BYTES  the largest file that the work may write; 0: any.
PROCESSES, OPEN_FILES  how many the work may have (RLIMIT_NPROC, RLIMIT_NOFILE); 0: any.
OUTPUT_BYTES  the largest file that is copied to the outbox.
CWD       where the work starts.
SCRATCH   its scratch folder; outputs are looked for there, then in CWD.
OUTPUTS   how many OUTPUT words follow.

In the sandbox this process is PID 1 of its namespace: the work can neither stop nor kill it, and the kernel ends
everything with it. SIGTERM to this process is a stop as well. What the work leaves running when it ends is ended too.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import time
from contextlib import suppress

from agents.shim import outbox, tree
from agents.shim.lifeline import Lifeline
from agents.shim.watch import Signals, Watch

PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36


def bound(limit: int, most: int) -> None:
    """A resource limit of this process and its children (setrlimit(2)); 0: as it is."""
    if most:
        hard = resource.getrlimit(limit)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (least, least))


def start(argv: list[str], *, env: dict[str, str], cwd: str, limits: dict[int, int]) -> tuple[int, str]:
    """Fork the work. Its pid, and where its start failed, as "stage errno"; nothing if it runs."""
    told, tell = os.pipe()  # what the child says; closed by its exec
    pid = os.fork()
    if pid == 0:
        stage = "start"
        try:
            os.setsid()
            Signals.forget()
            stage = "cwd"
            os.chdir(cwd)
            stage = "start"
            for limit, most in limits.items():
                bound(limit, most)
            stage = "program"
            os.execvpe(argv[0], argv, env)  # no descriptor but the standard ones goes with it
        except OSError as fault:
            os.write(tell, f"{stage} {fault.errno or 0}".encode())
        finally:
            os._exit(127)
    os.close(tell)
    return pid, os.read(told, 100).decode()


def environment(descriptor: int) -> dict[str, str]:
    with open(descriptor, "rb") as file:
        lines = file.read().split(b"\0")[:-1]
    return dict(os.fsdecode(line).split("=", 1) for line in lines)


def keep_only(*descriptors: int) -> None:
    """Close all descriptors but the standard ones and these, which no program that is started inherits."""
    last = 2
    for descriptor in sorted(descriptors):
        os.closerange(last + 1, descriptor)
        os.set_inheritable(descriptor, False)
        last = descriptor
    os.closerange(last + 1, 1 << 20)


def main() -> None:
    (lifeline_at, status_at, environment_at, outbox_at), words = sys.argv[1:5], sys.argv[5:]
    grace_s, linger_s, lease_end, file_bytes, processes, open_files, output_bytes, cwd, scratch, count = words[:10]
    outputs, argv = words[10 : 10 + int(count)], words[11 + int(count) :]
    status, outbox_descriptor = int(status_at), int(outbox_at)
    # First of all: what runs as the same user may then neither trace this process nor look into it.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    env = environment(int(environment_at))
    keep_only(int(lifeline_at), status, *([outbox_descriptor] if outputs else ()))
    signals = Signals()
    lifeline = Lifeline(int(lifeline_at), lease_end=float(lease_end))
    watch = Watch(lifeline=lifeline, signals=signals, grace_s=float(grace_s))
    watch.wait(0)  # a renewal may have come since LEASE_END was written, or the worker's end
    if watch.stops:
        report(status, tree.Tally(), ended=False, expired=watch.expired)

    limits = {
        resource.RLIMIT_FSIZE: int(file_bytes),
        resource.RLIMIT_NPROC: int(processes),
        resource.RLIMIT_NOFILE: int(open_files),
    }
    pid, fault = start(argv, env=env, cwd=cwd, limits=limits)
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
    code = os.waitstatus_to_exitcode(tally.statuses.get(pid, 0))
    copied: list[int] = []
    if outputs and ended and code == 0 and not survivors and not fault:
        copied = outbox.copy(outputs, folders=[scratch, cwd], outbox=outbox_descriptor, most_bytes=int(output_bytes))
    report(
        status,
        tally,
        ended=ended,
        expired=expired and not ended,
        code=code,
        fault=fault,
        survivors=survivors,
        leftovers=len(stopped) if ended else 0,
        outputs=copied,
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
    outputs: list[int] | None = None,
) -> None:
    """Say what came of the work, and exit at once: the worker waits, and there is nothing to tidy."""
    stage, _, number = fault.partition(" ")
    line = (  # without the json module, which would double the time to start
        f'{{"ended": {str(ended).lower()}, "expired": {str(expired).lower()}, "code": {code}, "stage": "{stage}", '
        f'"errno": {number or 0}, "cpu_s": {tally.cpu_s:.6f}, "max_rss_bytes": {tally.max_rss_bytes}, '
        f'"left": {survivors}, "leftovers": {leftovers}, "outputs": {outputs or []}}}\n'
    )
    with suppress(OSError):  # nobody hears: the worker is dead
        os.write(status, line.encode())
    os._exit(0)
