"""Finds security problems: committed secrets, dangerous Python, and invisible characters in code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from agents.callables import Context, register
from examples.repo_audit.checks import secrets
from examples.repo_audit.repository import tree
from examples.repo_audit.results import rules
from examples.repo_audit.results.findings import NOT_FOLLOWED, Ledger, Outcome, Rule

SECONDS = 150.0
BATCH = 400  # files per bandit process

TROJAN = rules.get("text:bidirectional")
ENV_FILE = rules.get("secrets:env-file")

_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
_ENV = re.compile(r"(^|/)\.env(\.(local|prod|production|staging|live))?$")

# bandit's other rules are noise: assert, random, any use of subprocess, names that look like a password.
_TESTS = ",".join(code for code in rules.codes("bandit") if "-" not in code)
_CERTAINTY = {"HIGH": 1.0, "MEDIUM": 0.85, "LOW": 0.6}


@register
def scan(context: Context, *, part: int = 1, of: int = 1) -> Outcome:
    """Secrets, hidden characters and dangerous Python in one share of the files."""
    repository = tree.from_context(context)
    files = tree.part(repository.files, part, of)
    ledger = Ledger()
    deadline = time.monotonic() + SECONDS
    python: list[tree.File] = []
    for number, (file, text) in enumerate(tree.texts(files)):
        if time.monotonic() > deadline:
            ledger.notes.append(f"Secrets: {len(files) - number:,} files were skipped for lack of time.")
            break
        if number % 200 == 0:
            context.progress(0.6 * number / max(1, len(files)), f"{number:,} of {len(files):,} files")
        ledger.checked_count += 1
        _check_text(file, text, ledger)
        if file.language == "Python" and file.role == "product":
            python.append(file)
    context.progress(0.6, f"bandit reads {len(python):,} Python files")
    _bandit(python, context.scratch, deadline, ledger)
    if python:
        ledger.notes.append(NOT_FOLLOWED)
    context.progress(1, f"files checked: {ledger.checked_count:,}")
    return ledger.outcome()


def _check_text(file: tree.File, text: str, ledger: Ledger) -> None:
    for hit in secrets.hits(file.path, text):
        # Passwords in documents and tests are nearly always examples; tokens and keys are not.
        certainty = 1.0 if file.role == "product" or hit.rule in (secrets.TOKEN, secrets.KEY) else 0.5
        detail = f"{hit.kind} in {file.path.rpartition('/')[2]}"
        ledger.add(hit.rule, file=file.path, line=hit.line, role=file.role, detail=detail, certainty=certainty)
    if _ENV.search(file.path) and "=" in text:
        ledger.add(ENV_FILE, file=file.path, role=file.role, detail=f"{file.path} is committed")
    if not text.isascii() and file.role == "product":
        for match in list(_BIDI.finditer(text))[:3]:
            line = text.count("\n", 0, match.start()) + 1
            ledger.add(
                TROJAN, file=file.path, line=line, role=file.role, detail=f"U+{ord(match[0]):04X} in {file.path}"
            )


def _bandit(files: list[tree.File], scratch: Path, deadline: float, ledger: Ledger) -> None:
    by_disk = {str(file.disk): file for file in files}
    names = list(by_disk)
    for start in range(0, len(names), BATCH):
        remaining_s = deadline - time.monotonic()
        batch = names[start : start + BATCH]
        command = [sys.executable, "-P", "-m", "bandit", "-q", "-f", "json", "--exit-zero", "-t", _TESTS, "--", *batch]
        try:
            completed = subprocess.run(
                command, cwd=scratch, capture_output=True, timeout=max(5.0, remaining_s), check=False
            )
        except subprocess.TimeoutExpired:
            ledger.notes.append(f"bandit: {len(names) - start:,} Python files were skipped for lack of time.")
            return
        try:
            results = json.loads(completed.stdout or b"{}").get("results", [])
        except ValueError:
            ledger.notes.append(
                f"bandit failed for {len(batch)} files: {completed.stderr.decode(errors='replace')[-200:].strip()}"
            )
            continue
        for result in results:
            _add(result, by_disk, ledger)


def _add(result: dict[str, Any], by_disk: dict[str, tree.File], ledger: Ledger) -> None:
    file = by_disk.get(result["filename"])
    rating = from_bandit(result["test_id"], result["issue_severity"], result["issue_confidence"])
    if file is not None and rating is not None:
        rule, certainty = rating
        ledger.add(rule, file=file.path, line=int(result["line_number"]), role=file.role, certainty=certainty)


def from_bandit(test: str, severity: str, confidence: str) -> tuple[Rule, float] | None:
    """The audit's rule for a result of bandit, and bandit's confidence as a number; None if it is noise."""
    shell = test in ("B602", "B605")
    if (severity == "LOW" and (shell or confidence == "LOW")) or confidence not in _CERTAINTY:
        return None  # for shell commands, LOW means a literal without values
    rule = rules.for_code("bandit", f"{test}-values" if shell and severity == "HIGH" else test)
    return (rule, _CERTAINTY[confidence]) if rule else None
