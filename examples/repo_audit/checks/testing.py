"""Checks the tests: whether there are any, whether they run and check something, and whether they cover hot files."""

from __future__ import annotations

import ast
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from agents.callables import Context, register
from examples.repo_audit.repository import languages, tree
from examples.repo_audit.results import rules
from examples.repo_audit.results.findings import Ledger, Outcome

NO_TESTS = rules.get("tests:none")
FEW_TESTS = rules.get("tests:few")
FOCUSED = rules.get("tests:focused")
SKIPPED = rules.get("tests:skipped")
NO_ASSERTION = rules.get("tests:no-assertion")
SLEEP = rules.get("tests:sleep")
HOT_UNTESTED = rules.get("tests:hot-untested")

_FOCUS = re.compile(r"^\s*(?:(?:describe|it|test|context|suite)\.only\s*\(|(?:fit|fdescribe|fcontext)\s*\()", re.M)
_SKIP = {
    "JavaScript": re.compile(
        r"^\s*(?:(?:describe|it|test|context)\.skip\s*\(|(?:xit|xdescribe|xtest|xcontext)\s*\()", re.M
    ),
    "Java": re.compile(r"^\s*@(?:Disabled|Ignore)\s*$", re.M),
    "Rust": re.compile(r"^\s*#\[ignore\]", re.M),
    "Go": re.compile(r"^func Test\w+\([^)]*\) \{\n\s*t\.Skip(?:Now)?\(\)", re.M),
}
_SKIP["TypeScript"] = _SKIP["JavaScript"]
_SKIP["Kotlin"] = _SKIP["Java"]
_CHECK_NAME = re.compile(
    r"assert|expect|raises|warns|check|verif|fail|should|ensure|match|compare|test|must|validate|run|benchmark", re.I
)
_ASSERTING = re.compile(r"assert|(^|\.)(raises|fail)$", re.I)
_RUST_TEST = re.compile(r"#\[(tokio::)?test\]")


@dataclass(slots=True)
class _PythonTests:
    """The functions of all Python test files. A test without a check may call a function that has one."""

    asserting: set[str] = field(default_factory=set)  # names of functions with a check in their own body
    calls: dict[str, set[str]] = field(default_factory=dict)  # by function name, the names that it calls
    without_check: list[tuple[tree.File, ast.FunctionDef | ast.AsyncFunctionDef]] = field(default_factory=list)

    def add_module(self, module: ast.Module) -> None:
        for function in ast.walk(module):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                self.calls.setdefault(function.name, set()).update(_callees(function))
                if _asserts(function):
                    self.asserting.add(function.name)

    def report(self, ledger: Ledger) -> None:
        """Report tests without a check. Calls are matched by name, one level deep; if in doubt, nothing is reported."""
        checking = self.asserting | {name for name, callees in self.calls.items() if callees & self.asserting}
        for file, function in self.without_check:
            if not _callees(function) & checking:
                detail = f"`{function.name}` checks nothing"
                ledger.add(NO_ASSERTION, file=file.path, line=function.lineno, role=file.role, detail=detail)


@register
def review(context: Context) -> Outcome:
    """Check the tests by reading them; nothing is run."""
    repository = tree.from_context(context)
    ledger = Ledger()
    code = {
        file.language
        for file in repository.files
        if file.language in languages.BY_NAME and languages.BY_NAME[file.language].code
    }
    product_lines = test_lines = cases = 0
    words: set[str] = set()
    python_tests = _PythonTests()
    files = [file for file in repository.files if file.language in code]
    for number, (file, text) in enumerate(tree.texts(files)):
        if number % 200 == 0:
            context.progress(number / len(files), f"{number:,} of {len(files):,} files")
        lines = text.count("\n") + 1
        if file.role == "product":
            product_lines += lines
            if file.language == "Rust" and (inline := len(_RUST_TEST.findall(text))):
                cases += inline
                test_lines += min(lines // 3, inline * 12)
                words.add(PurePosixPath(file.path).stem.lower())
        elif file.role == "test":
            test_lines += lines
            ledger.checked_count += 1
            words.update(re.findall(r"[a-z0-9]{3,}", (file.path + text).lower()) if len(words) < 400_000 else ())
            cases += _check_file(file, text, ledger, python_tests)
    python_tests.report(ledger)
    ledger.figures = {"test_lines": test_lines, "product_lines": product_lines, "cases": cases}
    if product_lines > 100 and not test_lines:
        ledger.add(NO_TESTS, lines=product_lines)
    elif product_lines > 500 and test_lines * 10 < product_lines:
        ledger.add(
            FEW_TESTS,
            lines=product_lines,
            detail=f"Very few tests: {test_lines:,} lines for {product_lines:,} lines of code",
        )
    if not product_lines:
        ledger.notes.append("There is no program code here, so no tests were expected.")
    elif test_lines:
        _add_untested(context.needs.get("history"), repository, words, ledger)
    context.progress(1, f"test files checked: {ledger.checked_count:,}")
    return ledger.outcome()


def _check_file(file: tree.File, text: str, ledger: Ledger, python_tests: _PythonTests) -> int:
    """Check one test file; return the number of its tests, as far as it can be determined."""
    if file.language == "Python":
        return _python(file, text, ledger, python_tests)
    for match in _FOCUS.finditer(text) if file.language in ("JavaScript", "TypeScript") else ():
        ledger.add(FOCUSED, file=file.path, line=_line(text, match.end()), role=file.role)
    skip = _SKIP.get(file.language)
    for match in skip.finditer(text) if skip else ():
        ledger.add(SKIPPED, file=file.path, line=_line(text, match.end()), role=file.role)
    if file.language == "Go":
        # Raw strings may have a brace at the start of a line; they become blank lines.
        text = re.sub(r"`[^`]*`", lambda raw: "\n" * raw[0].count("\n"), text)
        for match in re.finditer(r"^func (Test\w+)\(t \*testing\.T\) \{\n(.*?)^\}", text, re.M | re.S):
            if not re.search(r"\bt\b|assert|require|Expect|check|verify|must|test", match[2], re.I):
                ledger.add(
                    NO_ASSERTION,
                    file=file.path,
                    line=_line(text, match.start()),
                    role=file.role,
                    detail=f"`{match[1]}` checks nothing",
                )
    return len(
        re.findall(r"^\s*(?:it|test|specify)\s*\(|^func Test\w+|@Test\b|#\[test\]|^\s*(?:it|test) [\"']", text, re.M)
    )


def _python(file: tree.File, text: str, ledger: Ledger, python_tests: _PythonTests) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return 0
    python_tests.add_module(module)
    cases = 0
    for function in _functions(module):
        if function.name.startswith("test"):
            cases += 1
            _python_case(file, function, ledger, python_tests)
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and _name(node.func) == "time.sleep" and _is_long(node):
            ledger.add(SLEEP, file=file.path, line=node.lineno, role=file.role)
    return cases


def _python_case(
    file: tree.File, function: ast.FunctionDef | ast.AsyncFunctionDef, ledger: Ledger, python_tests: _PythonTests
) -> None:
    for decorator in function.decorator_list:
        call = decorator if isinstance(decorator, ast.Call) else None
        name = _name(call.func if call else decorator)
        if name.endswith(("mark.skip", "unittest.skip")) or name == "skip":
            has_reason = call and (call.args or call.keywords)
            if not has_reason:
                ledger.add(
                    SKIPPED,
                    file=file.path,
                    line=function.lineno,
                    role=file.role,
                    detail=f"`{function.name}` is skipped without a reason",
                )
            return
    if not _checks(function):
        python_tests.without_check.append((file, function))


def _functions(module: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions of the module and of its classes, without nested functions."""
    for node in module.body:
        for inner in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                yield inner


def _checks(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a test can fail for a reason other than a crash. A call with a name that suggests a check counts."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert | ast.Raise):
            return True
        if isinstance(node, ast.withitem) and isinstance(node.context_expr, ast.Call):
            return True
        if isinstance(node, ast.Call) and _CHECK_NAME.search(_name(node.func)):
            return True
        if isinstance(node, ast.keyword) and _CHECK_NAME.search(node.arg or ""):
            return True
    body = [node for node in function.body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
    return len(body) == 0 or len(function.decorator_list) > 0  # an empty test is a stub; a decorator may check


def _asserts(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether the function's own body has an assertion."""
    return any(
        isinstance(node, ast.Assert | ast.Raise) or (isinstance(node, ast.Call) and _ASSERTING.search(_name(node.func)))
        for node in ast.walk(function)
    )


def _callees(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """The last part of each called name: `until` for `supervised.until(...)`."""
    return {_name(node.func).rpartition(".")[2] for node in ast.walk(function) if isinstance(node, ast.Call)} - {""}


def _name(node: ast.AST) -> str:
    """`a.b.c` for a dotted name; if it starts with another expression, only the part after it."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        parts.append(node.id)
    return ".".join(reversed(parts))


def _is_long(call: ast.Call) -> bool:
    """Whether a sleep takes a second or more; shorter ones often belong to a polling loop."""
    value = call.args[0] if call.args else None
    return isinstance(value, ast.Constant) and isinstance(value.value, int | float) and value.value >= 1


def _line(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def _add_untested(history: Any, repository: tree.Tree, words: set[str], ledger: Ledger) -> None:
    """Report at most five of the most changed code files whose name occurs in no test."""
    changed: dict[str, list[int]] = (
        (history or {}).get("figures", {}).get("files", {}) if isinstance(history, dict) else {}
    )
    program = {
        file.path: file
        for file in repository.files
        if file.role == "product" and languages.BY_NAME.get(file.language, languages.Language("", "")).code
    }
    tests_by_language = Counter(file.language for file in repository.files if file.role == "test")
    hot = [path for path in changed if path in program and changed[path][0] >= 10][:20]
    untested = []
    for path in hot:
        parts = re.findall(r"[a-z0-9]{3,}", PurePosixPath(path).stem.lower())
        generic = {"index", "main", "init", "app", "mod", "lib"} & set(parts)
        if parts and not generic and tests_by_language[program[path].language] and not words.issuperset(parts):
            untested.append(path)
    for path in untested[:5]:
        ledger.add(HOT_UNTESTED, file=path, lines=10, detail=f"changed {changed[path][0]} times, and no test names it")
