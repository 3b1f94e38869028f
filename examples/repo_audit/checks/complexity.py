"""The cyclomatic complexity of functions, measured by lizard in the languages that it supports."""

from __future__ import annotations

import time
from collections import Counter

import lizard

from agents.callables import Context, register
from examples.repo_audit.repository import tree
from examples.repo_audit.results import rules
from examples.repo_audit.results.findings import Ledger, Outcome

SECONDS = 150.0
KEPT_FILES = 400
MANY_BRANCHES, VERY_MANY_BRANCHES, MAX_LINES, MAX_PARAMETERS = 15, 30, 150, 9

VERY_BRANCHED = rules.get("lizard:very-branched")
BRANCHED = rules.get("lizard:branched")
TOO_LONG = rules.get("lizard:long")
PARAMETERS = rules.get("lizard:parameters")


@register
def measure(context: Context, *, languages: list[str], part: int = 1, of: int = 1) -> Outcome:
    """The complexity of one language's code (or a part of it), and the most complex files, for `hotspots`."""
    files = tree.part(tree.from_context(context).select(*languages), part, of)
    ledger = Ledger()
    by_file: dict[str, list[int]] = {}
    spread: Counter[str] = Counter()
    deadline = time.monotonic() + SECONDS
    for number, (file, text) in enumerate(tree.texts(files)):
        if time.monotonic() > deadline:
            ledger.notes.append(
                f"Complexity: {len(files) - number:,} files of {', '.join(languages)} were skipped for lack of time."
            )
            break
        if number % 50 == 0:
            context.progress(number / len(files), f"{number:,} of {len(files):,} files")
        functions = _functions(file.disk.suffix, text, ledger)
        ledger.checked_count += 1
        if functions:
            branches = [function.cyclomatic_complexity for function in functions]
            by_file[file.path] = [
                sum(branches),
                max(branches),
                sum(function.nloc for function in functions),
                len(functions),
            ]
        for function in functions:
            spread[_band(function.cyclomatic_complexity)] += 1
            _check_function(function, file, ledger)
    context.progress(1, f"files checked: {ledger.checked_count:,}")
    largest = sorted(by_file, key=lambda path: -by_file[path][0])[:KEPT_FILES]
    ledger.figures = {
        "files": {path: by_file[path] for path in largest},
        "spread": dict(spread),
        "languages": list(languages),
    }
    return ledger.outcome()


def _functions(suffix: str, text: str, ledger: Ledger) -> list[lizard.FunctionInfo]:
    try:
        functions = lizard.analyze_file.analyze_source_code("source" + suffix, text).function_list
    except (RecursionError, ValueError, IndexError, TypeError, AttributeError, KeyError, StopIteration):
        # lizard's parsers are approximate; a failure says nothing about the file.
        return []
    return [function for function in functions if function.nloc > 0]


def _check_function(function: lizard.FunctionInfo, file: tree.File, ledger: Ledger) -> None:
    branches, length = function.cyclomatic_complexity, function.nloc
    name = function.name.rpartition("::")[2]
    if not name or name.startswith("anonymous"):
        name = "(anonymous)"
    if branches > VERY_MANY_BRANCHES:
        rule = VERY_BRANCHED
    elif branches > MANY_BRANCHES:
        rule = BRANCHED
    elif length > MAX_LINES and not name.startswith("("):
        rule = TOO_LONG
    elif len(function.full_parameters) > MAX_PARAMETERS:
        rule = PARAMETERS
    else:
        return
    detail = f"`{name}` has {branches} branches over {length} lines"
    if rule is PARAMETERS:
        detail = f"`{name}` takes {len(function.full_parameters)} parameters"
    ledger.add(rule, file=file.path, line=function.start_line, lines=length, role=file.role, detail=detail)


def _band(branches: int) -> str:
    for most, name in ((5, "1–5"), (10, "6–10"), (15, "11–15"), (30, "16–30")):
        if branches <= most:
            return name
    return "over 30"
