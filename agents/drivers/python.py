"""Runs a registered callable in a child process, so that it can be stopped and measured and sees no credentials."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import ClassVar

from agents.drivers import process
from agents.drivers.base import Brief, Evidence, Reporter, Stop

CHECKOUT = Path(__file__).resolve().parent.parent.parent


class PythonDriver:
    """See docs/drivers.md, "What a callable sees"."""

    name: ClassVar[str] = "python"

    def fly(self, *, brief: Brief, reporter: Reporter, stop: Stop) -> Evidence:
        (brief.scratch / "call.json").write_text(
            json.dumps(
                {
                    "call": brief.call,
                    "arguments": dict(brief.arguments),
                    "needs": dict(brief.needs),
                    "inputs": dict(brief.inputs),
                    "result_bytes": brief.limits.result_bytes,
                }
            )
        )
        environment = process.environment(brief) | {"PYTHONPATH": str(CHECKOUT), "PYTHONUNBUFFERED": "1"}
        ended = process.run(
            argv=(sys.executable, "-P", "-m", "agents.drivers.child"),
            brief=brief,
            env=environment,
            reporter=reporter,
            stop=stop,
        )
        try:
            _, said = process.read_json(
                brief.scratch / "error.json", what="What the callable raised", limit=brief.limits.result_bytes
            )
            if not ended.ok:
                error = process.explain(ended, program="python", cwd=brief.cwd or brief.scratch, limits=brief.limits)
                if ended.finished and isinstance(said, str):
                    error = said
                return process.evidence(ended, error=error)
            _, result = process.read_json(
                brief.scratch / "result.json", what="The callable's result", limit=brief.limits.result_bytes
            )
            return process.evidence(ended, result=result, added=process.added_from(brief))
        except process.Unreadable as fault:
            return process.evidence(ended, error=str(fault))
