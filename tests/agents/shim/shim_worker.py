"""A worker that flies one command and prints what it saw as JSON; for tests that kill it or run it as another user.

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
from agents.drivers import sandbox
from agents.drivers.base import Brief, Limits, Stop, Stream


class Ear:
    def __init__(self) -> None:
        self.out = b""
        self.heard_bytes = 0

    def output(self, *, stream: Stream, data: bytes) -> None:
        self.heard_bytes += len(data)
        self.out = (self.out + data)[-65_536:]

    def progress(self, *, fraction: float | None, note: str) -> None: ...

    def started(self, *, pid: int, start_time: float) -> None: ...


def main() -> None:
    given = json.loads(sys.argv[1])
    if given.get("harden"):
        sandbox.harden_worker()
    ear = Ear()
    evidence = drivers.get(given.get("driver", "command")).fly(
        brief=Brief(
            marker=given.get("marker", "srt_test/1"),
            fleet=given.get("fleet", ""),
            scratch=Path(given["scratch"]),
            shell=given["shell"],
            call=given.get("call", ""),
            arguments=given.get("arguments", {}),
            env=given.get("env", {}) | {"WORKER": str(os.getpid())},
            needs=given.get("needs", {}),
            env_allow=frozenset({"PATH"}),
            confined=given.get("confined", True),
            hidden=tuple(map(Path, given.get("hidden", []))),
            writable=tuple(map(Path, given.get("writable", []))),
            readable=tuple(map(Path, given.get("readable", []))),
            limits=Limits(timeout_s=given.get("timeout_s", 60), grace_s=2),
        ),
        reporter=ear,
        stop=Stop(lease_end=time.monotonic() + given.get("lease_s", math.inf)),
    )
    status = Path("/proc/self/status").read_text()  # rusage would count in the process that started this one
    peak = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    told = {"ok": evidence.ok, "error": evidence.error, "out": ear.out.decode(), "bytes": ear.heard_bytes, "peak": peak}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
