"""Calls one registered callable: orders as JSON on standard input, what comes of it as JSON in files of a folder.

`result.json` and `sorties.json` if it returned, `error.json` if it did not: `{"error": one sentence, "permanent": whether the
next try would end the same}`. Standard output is output.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from agents import callables
from fleet import errors, values


def main(folder: Path) -> int:
    """The exit code: 0 if the callable returned something that the fleet can keep."""
    orders = json.load(sys.stdin)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGTERM, _leave)
    context = callables.Context(
        needs=_Needs(folder),
        inputs=json.loads((folder / "inputs.json").read_text(encoding="utf-8")),
        cwd=Path.cwd(),
        scratch=Path(os.environ["FLEET_SCRATCH"]),
        report=_report,
    )
    try:
        work = _work(orders["call"])
        result = work(context, **orders["arguments"])
        _write(folder / "sorties.json", context.added, what="A sortie that it adds")
        _write(folder / "result.json", result, what="The callable's result")
    except SystemExit as left:
        if left.code in (None, 0):
            return 0
        return _fail(folder, f"The callable ended its process: SystemExit({left.code!r}). Raise an error instead.")
    except _Permanent as fault:
        return _fail(folder, str(fault), permanent=True)
    except errors.FleetError as fault:
        return _fail(folder, str(fault))
    except BaseException as fault:
        traceback.print_exc()
        return _fail(folder, traceback.format_exception_only(fault)[-1].strip())
    return 0


def _leave(*_: object) -> NoReturn:
    """So that `finally` blocks run when the work is stopped."""
    sys.exit(128 + signal.SIGTERM)


def _work(name: str) -> Callable[..., Any]:
    module = name.partition(":")[0]
    try:
        importlib.import_module(module)
        return callables.get(name)
    except errors.NotFound as fault:
        raise _Permanent(str(fault)) from None
    except ModuleNotFoundError as fault:
        raise _Permanent(
            f"The module of the callable {name!r} cannot be imported: {fault}. Install what it needs."
        ) from None


def _write(path: Path, value: Any, *, what: str) -> None:
    """As JSON, which the driver holds to the rule; what Python cannot write at all is told here."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError) as fault:
        try:
            values.check(value)
            reason = str(fault)
        except values.Unacceptable as place:
            reason = str(place)
        raise _Permanent(f"{what} is not JSON: {reason}. Return None, numbers, texts, lists and dicts.") from fault
    path.write_text(text, encoding="utf-8")


def _fail(folder: Path, error: str, *, permanent: bool = False) -> int:
    text = json.dumps({"error": error.encode("utf-8", "replace").decode()[:4_000], "permanent": permanent})
    (folder / "error.json").write_text(text, encoding="utf-8")
    return 1


class _Permanent(Exception):
    """A fault that the next try would meet again; one sentence."""


class _Needs(Mapping[str, Any]):
    """The upstream results by need name. Each is read when it is first asked for: there may be thousands."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, str] = json.loads((folder / "needs.json").read_text(encoding="utf-8"))
        self._read: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._read:
            text = (self._folder / "needs" / self._files[name]).read_text(encoding="utf-8")
            self._read[name] = json.loads(text)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _report(fraction: float | None, note: str) -> None:
    words = note.replace("\n", " ")[:300]
    with open(os.environ["FLEET_PROGRESS"], "w", encoding="utf-8", errors="replace") as pipe:
        pipe.write(f"{words}\n" if fraction is None else f"{fraction:.4f} {words}\n")
