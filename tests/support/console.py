"""Runs management commands in the test's own process, and captures their exit codes and output."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from typing import Any

from django.core.management import get_commands, load_command_class


@dataclass(frozen=True)
class CommandResult:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


def manage(name: str, *arguments: str) -> CommandResult:
    """Run `manage.py NAME ARGUMENTS…`."""
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            app = get_commands()[name]
            assert isinstance(app, str)
            load_command_class(app, name).run_from_argv(["manage.py", name, *arguments])
        except SystemExit as end:
            code = end.code or 0
    assert isinstance(code, int)
    return CommandResult(code, out.getvalue(), err.getvalue())
