"""Runs one registered callable, named as JSON on standard input, and writes the outcome as JSON files to a folder.

If the callable returns, it writes `result.json` and `sorties.json`. If the callable fails, it writes `error.json`:
`{"error": one sentence, "permanent": true if the next try would fail the same way}`. If the callable exits with
`sys.exit(0)`, it writes nothing: the sortie succeeds without a result. Whatever the callable prints to
standard output is output of the attempt.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from agents import callables
from fleet import errors, values


def main(folder: Path) -> int:
    """Run the callable and return the exit code: 0 if it returned or exited with 0."""
    request = json.load(sys.stdin)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGTERM, _exit_on_sigterm)
    context = callables.Context(
        needs=_Needs(folder),
        inputs=json.loads((folder / "inputs.json").read_text(encoding="utf-8")),
        cwd=Path.cwd(),
        scratch=Path(os.environ["FLEET_SCRATCH"]),
        report=_report,
        resume=_read_resume(),
        write_resume=_write_resume,
    )
    try:
        function = _load(request["call"])
        _check_arguments(request["call"], function, request["arguments"])
        result = function(context, **request["arguments"])
        _write(folder / "sorties.json", context.added, label="A sortie to add")
        _write(folder / "result.json", result, label="The callable's result")
    except SystemExit as end:
        if end.code in (None, 0):
            return 0
        return _fail(folder, f"The callable ended its process: SystemExit({end.code!r}). Raise an error instead.")
    except _Permanent as error:
        return _fail(folder, str(error), permanent=True)
    except errors.FleetError as error:
        return _fail(folder, str(error))
    except BaseException as error:
        traceback.print_exc()
        return _fail(folder, traceback.format_exception_only(error)[-1].strip())
    return 0


def _exit_on_sigterm(*_: object) -> NoReturn:
    """Raise SystemExit, so that `finally` blocks run when the workload is stopped."""
    sys.exit(128 + signal.SIGTERM)


def _load(name: str) -> Callable[..., Any]:
    module = name.partition(":")[0]
    try:
        importlib.import_module(module)
        return callables.get(name)
    except errors.NotFound as error:
        raise _Permanent(str(error)) from None
    except ModuleNotFoundError as error:
        raise _Permanent(
            f"The module of the callable {name!r} cannot be imported: {error}. Install its requirements."
        ) from None


def _check_arguments(name: str, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """Check the arguments before the call, so that wrong arguments are not reported as a bug in the callable."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some builtins have none
        return
    try:
        signature.bind(None, **arguments)
    except TypeError as error:
        raise _Permanent(f"The callable {name!r} does not take these arguments (`with`): {error}.") from None


def _write(path: Path, value: Any, *, label: str) -> None:
    """Write the value as JSON. The driver validates it later; this reports only values that Python cannot serialize."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        try:
            values.check(value)
            reason = str(error)
        except values.Unacceptable as unacceptable:
            reason = str(unacceptable)
        raise _Permanent(
            f"{label} is not JSON: {reason}. Return only None, booleans, numbers, strings, lists and dicts."
        ) from error
    path.write_text(text, encoding="utf-8")


def _report(fraction: float | None, note: str) -> None:
    text = note.replace("\n", " ")[:300]
    with open(os.environ["FLEET_PROGRESS"], "w", encoding="utf-8", errors="replace") as pipe:
        pipe.write(f"{text}\n" if fraction is None else f"{fraction:.4f} {text}\n")


def _read_resume() -> Any:
    try:
        return json.loads(Path(os.environ["FLEET_RESUME"]).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _write_resume(value: Any) -> None:
    """Write the value to FLEET_RESUME. The file is replaced atomically, so that no reader sees half of it."""
    path = Path(os.environ["FLEET_RESUME"])
    new = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    new.write_bytes(text.encode("utf-8", "surrogatepass"))  # the driver decides whether it is acceptable
    new.replace(path)


def _fail(folder: Path, error: str, *, permanent: bool = False) -> int:
    text = json.dumps({"error": error.encode("utf-8", "replace").decode()[:4_000], "permanent": permanent})
    (folder / "error.json").write_text(text, encoding="utf-8")
    return 1


class _Permanent(Exception):
    """An error that a retry would repeat. Its text is one sentence."""


class _Needs(Mapping[str, Any]):
    """The upstream results by need name. Each is read on first access, because there may be thousands."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, str] = json.loads((folder / "needs.json").read_text(encoding="utf-8"))
        self._results: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._results:
            text = (self._folder / "needs" / self._files[name]).read_text(encoding="utf-8")
            self._results[name] = json.loads(text)
        return self._results[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)
