"""Runs a registered callable in a child process, where it can be stopped and measured and sees no credentials."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import agents.child
from agents.drivers import outcomes, process
from agents.drivers.base import AttemptBrief, Evidence, Reporter, Stop
from agents.drivers.exchange import Exchange, Unreadable, environment

PROGRAM = str(Path(agents.child.__file__).with_name("__main__.py"))


class PythonDriver:
    """See docs/drivers.md, "What a callable sees"."""

    name: ClassVar[str] = "python"

    def run(self, *, brief: AttemptBrief, reporter: Reporter, stop: Stop) -> Evidence:
        request = {"call": brief.call, "arguments": dict(brief.arguments)}
        with Exchange(brief) as exchange:
            environ = environment(brief, exchange)
            outcome = process.run(
                argv=(sys.executable, "-P", "-u", PROGRAM, str(exchange.path)),
                brief=replace(brief, stdin=json.dumps(request)),
                exchange=exchange,
                env=environ,
                reporter=reporter,
                stop=stop,
            )
            try:
                if not outcome.ok:
                    error = outcomes.explain(
                        outcome, program="python", cwd=brief.cwd or brief.scratch, limits=brief.limits
                    )
                    _, failure = exchange.read("error.json", label="The callable's error")
                    if isinstance(failure, dict) and outcome.finished and not outcome.used:
                        error = str(failure.get("error"))
                        permanent = failure.get("permanent") is True
                        return outcomes.evidence(
                            outcome, error=f"{error}{outcomes.sandbox_hint(brief, error)}", permanent=permanent
                        )
                    return outcomes.evidence(outcome, error=error)
                _, result = exchange.read("result.json", label="The callable's result")
                return outcomes.evidence(outcome, result=result, added=exchange.added_sorties())
            except Unreadable as exc:
                return outcomes.evidence(outcome, error=str(exc), permanent=True)
