"""Static checks of Python: ruff's rules for likely bugs, and vulture for unreachable and unused code.

Rules about style are left out. The project's own ruff configuration is not read (`--isolated`); its `# noqa` marks are
respected.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import vulture
from vulture.utils import ExitCode

from agents.callables import Context, register
from examples.repo_audit.repository import tree
from examples.repo_audit.results import rules
from examples.repo_audit.results.findings import Ledger, Outcome

BATCH = 800
SECONDS = 120.0

_ASYNC = "ASYNC210,ASYNC220,ASYNC221,ASYNC222,ASYNC251"
_DTZ = "DTZ003,DTZ004"
_SELECT = (
    "E902,F502,F503,F504,F505,F506,F507,F508,F509,F521,F522,F524,F525,F601,F631,F632,F633,F634,F701,F702,F704,F706,F707,F811,F821,F822,"
    f"F823,F841,F401,B002,B006,B012,B015,B017,B018,B020,B023,B025,B029,B030,B031,B032,B035,B039,B909,E722,S110,S112,RUF006,PLE,{_ASYNC},{_DTZ}"
)
# Common and harmless in tests.
_FINE_IN_TESTS = (
    "F841",
    "F401",
    "S110",
    "S112",
    "B018",
    "DTZ",
    "F811",
    "ASYNC",
    "B015",
    "E722",
    "RUF006",
    "B023",
    "PLE",
)

# Errors of CPython's tokenizer on source that ruff accepts.
_LIMITS = ("too many nested parentheses", "too many levels of indentation", "too many statically nested blocks")

INVALID = rules.get("ruff:invalid-syntax")
UNREACHABLE = rules.get("vulture:unreachable")
PRIVATE = rules.get("vulture:private-unused")


@register
def python(context: Context) -> Outcome:
    """Likely bugs and dead code in Python; a note if there is no Python."""
    files = tree.from_context(context).select("Python")
    readable = [file for file, _text in tree.texts(files)]
    ledger = Ledger()
    ledger.checked_count = len(readable)
    if not readable:
        ledger.notes.append("There is no Python here, so ruff, bandit and vulture did not run.")
        return ledger.outcome()
    context.progress(0.1, f"ruff reads {len(readable):,} files")
    for start in range(0, len(readable), BATCH):
        _ruff(readable[start : start + BATCH], context.scratch, ledger)
    context.progress(0.5, "vulture searches for dead code")
    _vulture(readable, ledger)
    context.progress(1, f"files checked: {len(readable):,}")
    return ledger.outcome()


def _ruff(files: list[tree.File], scratch: Path, ledger: Ledger) -> None:
    by_disk = {str(file.disk): file for file in files}
    # ruff replaces bytes of a name that are not UTF-8 with U+FFFD.
    by_ruff_name = {os.fsencode(name).decode("utf-8", "replace"): file for name, file in by_disk.items()}
    options = [
        "--isolated",
        "--no-cache",
        "--exit-zero",
        "--output-format=json",
        "--target-version=py314",
        "--no-respect-gitignore",
    ]
    command = [
        sys.executable,
        "-P",  # without it, a ruff.py in the folder would run
        "-m",
        "ruff",
        "check",
        *options,
        "--preview",
        f"--select={_SELECT}",
        "--ignore=PLE0704",
        "--",
        *by_disk,
    ]
    completed = subprocess.run(command, cwd=scratch, capture_output=True, timeout=SECONDS, check=False)
    try:
        results = json.loads(completed.stdout)
    except ValueError:
        ledger.notes.append(
            f"ruff failed for {len(files)} files: {completed.stderr.decode(errors='replace')[-200:].strip()}"
        )
        return
    from_ruff(results, by_ruff_name, ledger)


def from_ruff(results: Iterable[dict[str, Any]], by_ruff_name: dict[str, tree.File], ledger: Ledger) -> None:
    """Add ruff's results to the ledger, except those that are harmless in their context."""
    for result in results:
        code = result["code"] or "invalid-syntax"
        file = by_ruff_name.get(result["filename"])
        if file is None or (file.role != "product" and _is_fine_in_tests(code, result["message"])):
            continue
        if code == "invalid-syntax" and (file.role != "product" or _is_template(file)):
            continue
        if code == "F401" and (file.path.endswith(("__init__.py", ".pyi")) or "consider" in result["message"]):
            continue
        rule = rules.for_code("ruff", code)
        if rule is None:
            continue
        line = int((result.get("location") or {}).get("row") or 0)
        end = int((result.get("end_location") or {}).get("row") or line)
        ledger.add(rule, file=file.path, line=line, lines=max(1, end - line), role=file.role, detail=result["message"])


def _is_fine_in_tests(code: str, message: str) -> bool:
    lost_test = code == "F811" and "`test" in message  # the first of two tests with the same name never runs
    return code.startswith(_FINE_IN_TESTS) and not lost_test


def _is_template(file: tree.File) -> bool:
    text = tree.read(file) or ""
    return "{{" in text or "{%" in text or "print " in text


def _vulture(files: list[tree.File], ledger: Ledger) -> None:
    finder = vulture.Vulture(ignore_decorators=["@*"])  # a decorator may register what it decorates
    by_disk = {str(file.disk): file for file in files}
    for file in files:
        text = tree.read(file)
        if text is None:
            continue
        finder.exit_code = ExitCode.NoDeadCode
        try:
            finder.scan(text, filename=file.disk)
        except (RecursionError, MemoryError):
            ledger.notes.append(f"vulture could not read {file.path}: it is nested too deeply.")
        if finder.exit_code is ExitCode.InvalidInput and file.role == "product":
            _check_tokenizer_limits(file, text, ledger)
    for item in finder.get_unused_code(min_confidence=60):
        file_of = by_disk.get(str(item.filename))
        if file_of is None or file_of.role != "product":
            continue
        private = item.name.startswith("_") and not item.name.startswith("__") and item.typ in ("function", "class")
        if item.typ == "unreachable_code":
            ledger.add(UNREACHABLE, file=file_of.path, line=item.first_lineno, lines=item.size, detail=item.message)
        elif private:
            ledger.add(
                PRIVATE,
                file=file_of.path,
                line=item.first_lineno,
                lines=item.size,
                detail=f"nothing uses `{item.name}`",
            )


def _check_tokenizer_limits(file: tree.File, text: str, ledger: Ledger) -> None:
    try:
        ast.parse(text)
    except SyntaxError as error:
        if error.msg in _LIMITS:
            ledger.add(INVALID, file=file.path, line=error.lineno or 1, role=file.role, detail=f"CPython: {error.msg}")
    except ValueError:
        return  # a NUL character, which ruff reports
