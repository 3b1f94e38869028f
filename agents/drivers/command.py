"""Runs a command: a program with arguments, or text for the shell, optionally with a prompt on standard input."""

from __future__ import annotations

from typing import ClassVar

from agents.drivers import outcomes, process
from agents.drivers.base import AttemptBrief, Evidence, Json, Reporter, Stop, Stream
from agents.drivers.exchange import Exchange, Unreadable, environment

TAIL = 4_000  # characters of standard output that become the result if the workload writes none
ERROR_TAIL = 400


class _TailReporter:
    """Forwards everything to another reporter and keeps the end of the output."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.progress, self.save_resume, self.started = reporter.progress, reporter.save_resume, reporter.started
        self._tails: dict[Stream, bytes] = {"stdout": b"", "stderr": b""}

    def output(self, *, stream: Stream, data: bytes) -> None:
        if stream in self._tails:
            self._tails[stream] = (self._tails[stream] + data)[-4 * TAIL :]  # a character has at most four bytes
        self._reporter.output(stream=stream, data=data)

    def tail(self, stream: Stream) -> str:
        return self._tails[stream].decode("utf-8", "replace").replace("\x00", "�")[-TAIL:]

    def last_line(self) -> str:
        lines = (self.tail("stderr").strip() or self.tail("stdout").strip()).splitlines()
        return lines[-1].strip()[-ERROR_TAIL:] if lines else ""


class CommandDriver:
    """See docs/drivers.md, "What a command sees"."""

    name: ClassVar[str] = "command"

    def run(self, *, brief: AttemptBrief, reporter: Reporter, stop: Stop) -> Evidence:
        argv = brief.argv or ("/bin/sh", "-c", brief.shell)
        tails = _TailReporter(reporter)
        with Exchange(brief) as exchange:
            outcome = process.run(
                argv=argv,
                brief=brief,
                exchange=exchange,
                env=environment(brief, exchange),
                reporter=tails,
                stop=stop,
            )
            if not outcome.ok:
                error = outcomes.explain(outcome, program=argv[0], cwd=brief.cwd or brief.scratch, limits=brief.limits)
                if outcome.stage == "program":
                    error += outcomes.sandbox_hint(brief, error)
                elif outcome.finished and not outcome.stage and (line := tails.last_line()):
                    error += f" Its last output: {line}{outcomes.sandbox_hint(brief, line)}"
                return outcomes.evidence(outcome, error=error)
            try:
                written, result = exchange.read("result.json", label="The result (FLEET_RESULT)")
                added = exchange.added_sorties()
            except Unreadable as exc:
                return outcomes.evidence(outcome, error=str(exc), permanent=True)
        output: Json = {"output": tails.tail("stdout")}
        return outcomes.evidence(outcome, result=result if written else output, added=added)
