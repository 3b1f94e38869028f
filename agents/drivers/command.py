"""Runs a command: a program with its arguments, or text for the shell; also with a prompt on standard input."""

from __future__ import annotations

from typing import ClassVar

from agents.drivers import process
from agents.drivers.base import Brief, Evidence, Json, Reporter, Stop, Stream

TAIL = 4_000  # characters of standard output that are the result where none is written
ERROR_TAIL = 400


class _Ears:
    """Passes everything on, and remembers the end of it."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.progress, self.started = reporter.progress, reporter.started
        self.tails: dict[str, bytes] = {"stdout": b"", "stderr": b""}

    def output(self, *, stream: Stream, data: bytes) -> None:
        self.tails[stream] = (self.tails[stream] + data)[-4 * TAIL :]
        self._reporter.output(stream=stream, data=data)

    def last_line(self) -> str:
        for stream in ("stderr", "stdout"):
            lines = self.tails[stream].decode("utf-8", "replace").strip().splitlines()
            if lines:
                return lines[-1].strip()[-ERROR_TAIL:]
        return ""


class CommandDriver:
    """See docs/drivers.md, "What a command sees"."""

    name: ClassVar[str] = "command"

    def fly(self, *, brief: Brief, reporter: Reporter, stop: Stop) -> Evidence:
        argv = brief.argv or ("/bin/sh", "-c", brief.shell)
        ears = _Ears(reporter)
        ended = process.run(argv=argv, brief=brief, env=process.environment(brief), reporter=ears, stop=stop)
        if not ended.ok:
            error = process.explain(ended, program=argv[0], cwd=brief.cwd or brief.scratch, limits=brief.limits)
            if ended.finished and not ended.stage and (line := ears.last_line()):
                error += f" Its last words: {line}"
            return process.evidence(ended, error=error)
        try:
            there, result = process.read_json(
                brief.scratch / "result.json", what="The result (FLEET_RESULT)", limit=brief.limits.result_bytes
            )
            added = process.added_from(brief)
        except process.Unreadable as fault:
            return process.evidence(ended, error=str(fault))
        output: Json = {"output": ears.tails["stdout"].decode("utf-8", "replace").replace("\x00", "�")[-TAIL:]}
        return process.evidence(ended, result=result if there else output, added=added)
