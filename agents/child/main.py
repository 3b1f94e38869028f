"""Calls one registered callable: orders as JSON on standard input, what comes of it as JSON in files of a folder.

`result.json` and `sorties.json` if it returned, `error.json` (one sentence) if it did not. Standard output is output.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from agents import callables
from fleet import errors


def main(folder: Path) -> int:
    """The exit code: 0 if the callable returned something that the fleet can keep."""
    orders = json.load(sys.stdin)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGTERM, _leave)
    context = callables.Context(
        needs=orders["needs"],
        inputs=orders["inputs"],
        cwd=Path.cwd(),
        scratch=Path(os.environ["FLEET_SCRATCH"]),
        report=_report,
    )
    try:
        importlib.import_module(orders["call"].partition(":")[0])
        result = callables.get(orders["call"])(context, **orders["arguments"])
        _write(folder / "sorties.json", context.added, what="A sortie that it adds")
        _write(folder / "result.json", result, what="The callable's result")
    except SystemExit as left:
        if left.code in (None, 0):
            return 0
        return _fail(folder, f"The callable ended its process: SystemExit({left.code!r}). Raise an error instead.")
    except errors.FleetError as fault:
        return _fail(folder, str(fault))
    except BaseException as fault:
        traceback.print_exc()
        return _fail(folder, traceback.format_exception_only(fault)[-1].strip())
    return 0


def _leave(*_: object) -> NoReturn:
    """So that `finally` blocks run when the work is stopped."""
    sys.exit(128 + signal.SIGTERM)


def _write(path: Path, value: Any, *, what: str) -> None:
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as fault:
        raise errors.Invalid(
            f"{what} is not JSON ({fault}).", hint="Return None, numbers, texts, lists and dicts."
        ) from fault
    path.write_text(text, encoding="utf-8")


def _fail(folder: Path, error: str) -> int:
    (folder / "error.json").write_text(json.dumps(error[:4_000]), encoding="utf-8")
    return 1


def _report(fraction: float | None, note: str) -> None:
    words = note.replace("\n", " ")[:300]
    with open(os.environ["FLEET_PROGRESS"], "w", encoding="utf-8", errors="replace") as pipe:
        pipe.write(f"{words}\n" if fraction is None else f"{fraction:.4f} {words}\n")
