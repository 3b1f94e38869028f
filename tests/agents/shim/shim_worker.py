"""A worker that executes an attempt and prints the outcome as JSON, for tests that kill it or run it as another user.

python -m tests.agents.shim.shim_worker '{"scratch": …, "shell": …}'
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path

from agents import drivers
from agents.confinement import cgroups
from agents.confinement.attempt_limits import Limits
from agents.drivers.base import AttemptBrief, Json, Stop, Stream
from fleet.host import processes


class Recorder:
    def __init__(self) -> None:
        self.out = b""
        self.received_bytes = 0

    def output(self, *, stream: Stream, data: bytes) -> None:
        self.received_bytes += len(data)
        self.out = (self.out + data)[-65_536:]

    def progress(self, *, fraction: float | None, note: str) -> None: ...

    def save_resume(self, *, value: Json) -> None: ...

    def started(self, *, pid: int) -> None: ...


def main() -> None:
    request = json.loads(sys.argv[1])
    if request.get("harden"):
        processes.forbid_inspection()
    cgroups.activate()
    recorder = Recorder()
    evidence = drivers.get(request.get("driver", "command")).run(
        brief=AttemptBrief(
            marker=request.get("marker", "srt_test/1"),
            fleet=request.get("fleet", ""),
            scratch=Path(request["scratch"]),
            shell=request["shell"],
            call=request.get("call", ""),
            arguments=request.get("arguments", {}),
            env=request.get("env", {}) | {"WORKER": str(os.getpid())},
            needs=request.get("needs", {}),
            env_allow=frozenset({"PATH"}),
            confined=request.get("confined", True),
            hidden=tuple(map(Path, request.get("hidden", []))),
            writable=tuple(map(Path, request.get("writable", []))),
            readable=tuple(map(Path, request.get("readable", []))),
            limits=Limits(timeout_s=request.get("timeout_s", 60), disk_bytes=request.get("disk_bytes"), grace_s=2),
        ),
        reporter=recorder,
        stop=Stop(lease_end=time.monotonic() + request.get("lease_s", math.inf)),
    )
    status = Path("/proc/self/status").read_text()  # rusage would include the process that started this one
    peak = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    outcome = {
        "ok": evidence.ok,
        "error": evidence.error,
        "out": recorder.out.decode(),
        "bytes": recorder.received_bytes,
        "peak": peak,
    }
    sys.stdout.write(json.dumps(outcome))


if __name__ == "__main__":
    main()
