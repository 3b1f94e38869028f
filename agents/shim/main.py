"""The shim's main program. It starts the workload, outlives it, and ends every process that the workload has started.

    python -I -S …/agents/shim/__main__.py LIFELINE STATUS ENVIRONMENT OUTBOX FILTER CGROUP GRACE_S LINGER_S
        LEASE_END FILE_BYTES PROCESSES OPEN_FILES OUTPUT_BYTES CWD SCRATCH OUTPUTS OUTPUT… -- PROGRAM ARGUMENT…

LIFELINE  descriptor of a pipe that the worker holds open. Renewals of the lease arrive through it (lifeline.py). When
          it is closed, because the worker closed it or died, the shim stops the workload.
STATUS    descriptor of a pipe to which one line of JSON is written at the end (`Status` in drivers/shim.py).
ENVIRONMENT  descriptor of a file with the environment of the workload: NAME=VALUE, each terminated by NUL. This process
          has another one, because variables of a plan, such as LD_PRELOAD, must have no effect before the workload is
          confined.
OUTBOX    descriptor of the folder for copies of the outputs (outbox.py); -1: none. The workload never gets it.
FILTER    descriptor of a file with the seccomp filter of the workload; -1: none. It does not apply to this process.
CGROUP    descriptor of the folder of the cgroup in which the workload starts; -1: that of this process. The workload
          never gets it.
GRACE_S   seconds between SIGTERM and SIGKILL.
LINGER_S  seconds for processes that still hold the workload's output when its main process has ended.
LEASE_END when every process must be gone unless the lease is renewed, in seconds of CLOCK_MONOTONIC, which all
          processes of a host share in any PID namespace. SIGTERM comes GRACE_S earlier. "inf": never.
FILE_BYTES  the largest file that the workload may write, and the largest size of its outputs together; 0: no limit.
PROCESSES, OPEN_FILES  limits of the workload (RLIMIT_NPROC, RLIMIT_NOFILE); 0: no limit.
OUTPUT_BYTES  the largest file that is copied to the outbox.
CWD       the working directory of the workload.
SCRATCH   the scratch folder. Outputs are looked up there, then in CWD.
OUTPUTS   the number of OUTPUT arguments that follow.

In the sandbox this process is PID 1 of its namespace: the workload can neither stop nor kill it, and the kernel ends
everything with it. SIGTERM to this process stops the workload too. Processes that the workload leaves running are
ended.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import struct
import sys
import time
from contextlib import suppress

from agents.shim import outbox, tree
from agents.shim.lifeline import Lifeline
from agents.shim.watch import Signals, WorkloadWatch

PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER, PR_GET_NO_NEW_PRIVS = 4, 22, 36, 39
SECCOMP_MODE_FILTER = 2
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF = 444, 446  # the same on every architecture
ABSTRACT_UNIX_SOCKETS = (0, 0, 1)  # struct landlock_ruleset_attr: no rules, only LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
CAPABILITIES_V3 = 0x20080522  # the version of the structures of capset(2)
NAMESPACES = 512  # that the workload may create of each kind; as many as processes
SHARE = 4  # the workload gets a quarter of what the kernel allows a user
CLONE3, CLONE_INTO_CGROUP = 435, 1 << 33  # clone3(2); the same on every architecture


def set_limit(limit: int, value: int) -> None:
    """Lower a resource limit of this process and its children (setrlimit(2)). 0 leaves it unchanged."""
    if value:
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))


def share(limit: int) -> int:
    """The workload's share of what the kernel lets all processes of this user have; 0 if that is not limited."""
    soft = resource.getrlimit(limit)[0]
    return 0 if soft == resource.RLIM_INFINITY else max(1, soft // SHARE)


def block_abstract_sockets(libc: ctypes.CDLL) -> None:
    """Cut the workload off from the host's abstract Unix sockets (D-Bus, X11), which no mount hides.

    Needs Linux 6.12. Outside the sandbox, which sets no_new_privs, this does nothing.
    """
    if libc.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1:
        attributes = struct.pack("=3Q", *ABSTRACT_UNIX_SOCKETS)
        ruleset = libc.syscall(LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
        if ruleset >= 0:
            libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0)
            os.close(ruleset)


def limit_kernel_objects(libc: ctypes.CDLL) -> None:
    """Limit what the kernel counts by user, and so for all attempts and the fleet together: namespaces and watches.

    Bubblewrap has left this process the capability to set limits of its own user namespace. It is dropped here. As root
    there is no such namespace, and outside the sandbox, which sets no_new_privs, no such capability.
    """
    if os.geteuid() == 0 or libc.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1:
        return
    for kind in ("user", "mnt", "pid", "net", "ipc", "uts", "time", "cgroup"):
        _set_user_limit(f"{kind}_namespaces", NAMESPACES)
    for kind, limit in (
        ("inotify_instances", "inotify/max_user_instances"),
        ("inotify_watches", "inotify/max_user_watches"),
        ("fanotify_groups", "fanotify/max_user_groups"),
        ("fanotify_marks", "fanotify/max_user_marks"),
    ):
        with suppress(OSError, ValueError), open(f"/proc/sys/fs/{limit}", encoding="ascii") as file:
            _set_user_limit(kind, max(1, int(file.read()) // SHARE))
    header, none = struct.pack("=Ii", CAPABILITIES_V3, 0), bytes(24)
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    if libc.capset(header, none) != 0:
        raise OSError("the capabilities of the sandbox cannot be dropped")


def _set_user_limit(kind: str, value: int) -> None:
    with suppress(OSError), open(f"/proc/sys/user/max_{kind}", "w", encoding="ascii") as file:
        file.write(str(value))


def clone_into(cgroup: int) -> int:
    """Fork into a cgroup, given the descriptor of its folder. Returns what os.fork does, or -1 if it fails.

    Moving a process after a fork takes 20 ms since Linux 6.0: the kernel waits for a grace period of RCU.
    """
    arguments = struct.pack("=11Q", CLONE_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, cgroup)
    pid: int = ctypes.PyDLL(None).syscall(CLONE3, arguments, len(arguments))  # PyDLL keeps the interpreter's lock
    return pid


def load_filter(program: bytes) -> None:
    """Confine this process to a seccomp filter. It must have no_new_privs set, as in the sandbox."""
    instructions = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HP", len(program) // 8, ctypes.addressof(instructions))  # struct sock_fprog
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def start(
    argv: list[str], *, env: dict[str, str], cwd: str, limits: dict[int, int], rules: bytes = b"", cgroup: int = -1
) -> tuple[int, str]:
    """Fork and exec the workload. Returns its pid, and "stage errno" if its start failed, else ""."""
    failure, failure_of_child = os.pipe()  # closed by the exec
    pid = clone_into(cgroup) if cgroup >= 0 else -1
    must_enter = cgroup >= 0 and pid < 0  # clone3 may be refused, for example by a container's seccomp filter
    if pid < 0:
        pid = os.fork()
    if pid == 0:
        stage = "start"
        try:
            if must_enter:
                os.write(os.open("cgroup.procs", os.O_WRONLY, dir_fd=cgroup), b"0")
            os.setsid()
            Signals.restore_defaults()
            stage = "cwd"
            os.chdir(cwd)
            stage = "start"
            for limit, value in limits.items():
                set_limit(limit, value)
            if rules:
                load_filter(rules)
            stage = "program"
            os.execvpe(argv[0], argv, env)  # the workload inherits only the standard descriptors
        except OSError as error:
            if stage == "program" and error.errno == errno.ENOENT and exists(argv[0], env):
                stage = "interpreter"  # the one in its first line is missing
            os.write(failure_of_child, f"{stage} {error.errno or 0}".encode())
        finally:
            os._exit(127)
    os.close(failure_of_child)
    return pid, os.read(failure, 100).decode()


def exists(program: str, env: dict[str, str]) -> bool:
    """Whether the workload can see a program. The worker must not check: it would reveal what the sandbox hides."""
    folders = [""] if "/" in program else os.get_exec_path(env)
    return any(os.path.exists(os.path.join(folder, program)) for folder in folders)


def read(descriptor: int) -> bytes:
    """Read a file to its end, and close the descriptor."""
    with open(descriptor, "rb") as file:
        return file.read()


def environment(data: bytes) -> dict[str, str]:
    """Parse the environment of the workload."""
    return dict(os.fsdecode(line).split("=", 1) for line in data.split(b"\0")[:-1])


def close_all_except(*descriptors: int) -> None:
    """Close all descriptors except these and the standard ones, and do not let the workload inherit these."""
    last = 2
    for descriptor in sorted(descriptors):
        os.closerange(last + 1, descriptor)
        os.set_inheritable(descriptor, False)
        last = descriptor
    os.closerange(last + 1, 1 << 20)


def main() -> None:
    (lifeline_at, status_at, environment_at, outbox_at, filter_at, cgroup_at), rest = sys.argv[1:7], sys.argv[7:]
    grace_s, linger_s, lease_end, file_bytes, processes, open_files, output_bytes, cwd, scratch, count = rest[:10]
    outputs, argv = rest[10 : 10 + int(count)], rest[11 + int(count) :]
    status, outbox_descriptor, cgroup = int(status_at), int(outbox_at), int(cgroup_at)
    # First, so that no other process of this user can trace or inspect this one.
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    block_abstract_sockets(libc)
    limit_kernel_objects(libc)
    env = environment(read(int(environment_at)))
    rules = read(int(filter_at)) if int(filter_at) >= 0 else b""
    close_all_except(
        int(lifeline_at), status, *([outbox_descriptor] if outputs else ()), *([cgroup] if cgroup >= 0 else ())
    )
    signals = Signals()
    lifeline = Lifeline(int(lifeline_at), lease_end=float(lease_end))
    watch = WorkloadWatch(lifeline=lifeline, signals=signals, grace_s=float(grace_s))
    watch.wait(0)  # the lease may have been renewed or the pipe closed since LEASE_END was passed
    if watch.must_stop:
        report(status, tree.Children(), ended=False, expired=watch.expired)

    limits = {
        resource.RLIMIT_FSIZE: int(file_bytes),
        resource.RLIMIT_NPROC: int(processes),
        resource.RLIMIT_NOFILE: int(open_files),
        **{limit: share(limit) for limit in (resource.RLIMIT_SIGPENDING, resource.RLIMIT_MSGQUEUE)},
    }
    pid, failure = start(argv, env=env, cwd=cwd, limits=limits, rules=rules, cgroup=cgroup)
    if cgroup >= 0:
        os.close(cgroup)
    output = tree.identities(1, 2)
    devnull = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # so that the output reaches its end when the last process of the workload is gone
        os.dup2(devnull, stream)

    children = tree.Children()
    while children.reap() and pid not in children.statuses and not watch.must_stop:
        watch.wait()
    expired = watch.expired
    ended = pid in children.statuses
    stopped: set[int] = set()
    if ended:
        tree.linger(children, stopped, output=output, deadline=time.monotonic() + float(linger_s), watch=watch)
    survivors = tree.end(children, stopped, watch=watch)
    code = os.waitstatus_to_exitcode(children.statuses.get(pid, 0))
    copied: list[int] = []
    if outputs and ended and code == 0 and not survivors and not failure:
        copied = outbox.copy(
            outputs,
            folders=[scratch, cwd],
            outbox=outbox_descriptor,
            max_bytes=int(output_bytes),
            max_total_bytes=int(file_bytes),
            must_stop=watch.poll,
        )
    report(
        status,
        children,
        ended=ended,
        expired=expired and not ended,
        code=code,
        failure=failure,
        survivors=survivors,
        leftovers=len(stopped) if ended else 0,
        outputs=copied,
    )


def report(
    status: int,
    children: tree.Children,
    *,
    ended: bool,
    expired: bool,
    code: int = 0,
    failure: str = "",
    survivors: int = 0,
    leftovers: int = 0,
    outputs: list[int] | None = None,
) -> None:
    """Write the status and exit at once: the worker is waiting, and there is nothing to clean up."""
    stage, _, number = failure.partition(" ")
    line = (  # without the json module, whose import would double the start time
        f'{{"ended": {str(ended).lower()}, "expired": {str(expired).lower()}, "code": {code}, "stage": "{stage}", '
        f'"errno": {number or 0}, "cpu_s": {children.cpu_s:.6f}, "max_rss_bytes": {children.max_rss_bytes}, '
        f'"survivors": {survivors}, "leftovers": {leftovers}, "outputs": {outputs or []}}}\n'
    )
    with suppress(OSError):  # the worker is dead
        os.write(status, line.encode())
    os._exit(0)
