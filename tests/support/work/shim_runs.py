"""Runs the shim as a program, without a driver and without the sandbox, so that its coverage can be measured."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.drivers.shim import PROGRAM
from agents.shim import lifeline
from tests.support.processes import child_coverage


class ShimRun:
    """One shim. `closed`: its lifeline is closed before it starts; `renewed`: a new end of the lease already waits."""

    def __init__(
        self,
        *argv: str,
        scratch: Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        outputs: Sequence[str] = (),
        outbox: Path | None = None,
        rules: bytes = b"",
        cgroup: int = -1,
        grace_s: float = 5,
        linger_s: float = 0,
        lease_end: float = math.inf,
        file_bytes: int = 0,
        open_files: int = 0,
        output_bytes: int = 1_000_000,
        closed: bool = False,
        renewed: float | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        variables = {"PATH": os.environ["PATH"], **(env or {})}
        environment = _file(b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in variables.items()))
        shim_lifeline, self._lifeline = os.pipe()
        self._status, shim_status = os.pipe()
        folder = os.open(outbox, os.O_RDONLY | os.O_DIRECTORY) if outbox else -1
        rules_at = _file(rules) if rules else -1
        if renewed is not None:
            self.renew(renewed)
        if closed:
            self.stop()
        command = [*prefix, sys.executable, "-I", PROGRAM]
        command += map(str, (shim_lifeline, shim_status, environment, folder, rules_at, cgroup))
        command += map(str, (grace_s, linger_s, lease_end, file_bytes, 0, open_files, output_bytes, cwd or scratch))
        command += map(str, (scratch, len(outputs), *outputs, "--", *argv))
        own = [item for item in (shim_lifeline, shim_status, environment, folder, rules_at) if item >= 0]
        self.process = subprocess.Popen(
            command,
            env=child_coverage.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[*own, *([cgroup] if cgroup >= 0 else [])],
            start_new_session=True,
        )
        for descriptor in own:
            os.close(descriptor)

    def renew(self, lease_end: float) -> None:
        lifeline.send(self._lifeline, lease_end)

    def stop(self) -> None:
        """Close the lifeline, as a worker does that stops the attempt or dies."""
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    def end(self) -> tuple[dict[str, Any], str]:
        """Wait for the shim's end. Returns its status, and the output of the workload."""
        output, _ = self.process.communicate(timeout=60)
        self.stop()
        with open(self._status, "rb") as pipe:
            line = pipe.read()
        assert line, f"the shim ended without a status: {output.decode()}"
        return json.loads(line), output.decode()


def _file(data: bytes) -> int:
    descriptor = os.memfd_create("fleet", os.MFD_CLOEXEC)
    os.write(descriptor, data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
