"""A child process that reads lines of JSON and answers with lines of JSON."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any


class JsonProcess:
    """Starts the process. `name` is what errors call it; the other arguments are those of Popen."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        name: str,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        stderr: IO[bytes] | None = None,
    ) -> None:
        self._name = name
        self._process = subprocess.Popen(
            argv, cwd=cwd, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
        )

    def send(self, value: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps(value)}\n")
        self._process.stdin.flush()

    def receive(self) -> Any:
        """The next answer. Raises RuntimeError if the process has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._name} has ended; see its messages above or in its log")
        return json.loads(line)

    def end_input(self) -> None:
        """Tell the process that nothing follows. It may still answer."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def wait(self) -> None:
        self._process.wait()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
