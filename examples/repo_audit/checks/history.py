"""Reads the history: which files change, who changes them, and how active the project is."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from agents.callables import Context, register
from examples.repo_audit.repository import git, tree
from examples.repo_audit.results import rules
from examples.repo_audit.results.findings import Ledger, Outcome

MAX_COMMITS = 3_000  # newest commits whose changes are read
BULK = 150  # a commit that changes more files (a reformat, an import) says nothing about any of them
SECONDS = 60.0
KEPT_FILES = 2_500
WEEK = 7 * 86_400

SINGLE_AUTHOR = rules.get("history:one-author")


@dataclass(slots=True)
class RecentChanges:
    """Changes by the newest commits, by the current name of each file."""

    commits: Counter[str] = field(default_factory=Counter)
    lines: Counter[str] = field(default_factory=Counter)
    authors: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    read: int = 0
    bulk: int = 0
    complete: bool = True


@register
def churn(context: Context) -> Outcome:
    """Commits and changed lines by file, authors by folder, commits by week over two years."""
    repository = tree.from_context(context)
    ledger = Ledger()
    if not git.has_commits(repository.root):
        ledger.notes.append("There are no commits yet, so there is no history to read.")
        ledger.figures = {"files": {}, "heat": {}, "weeks": [], "commits": 0, "authors": []}
        return ledger.outcome()
    context.progress(0.1, "reading the newest commits")
    changes = changes_of(repository.root)
    ledger.checked_count = changes.read
    if not changes.complete:
        ledger.notes.append(
            f"History: the changes of the newest {changes.read:,} commits were read; older ones were skipped for lack of time."
        )
    if changes.bulk:
        ledger.notes.append(
            f"History: {changes.bulk} commits of more than {BULK} files (imports, reformats) do not count as changes."
        )
    context.progress(0.8, "counting all commits")
    weeks, total, people = activity(repository.root)
    current_paths = {file.path for file in repository.files}
    counts = {path: number for path, number in changes.commits.most_common() if path in current_paths}
    _add_single_authors(changes, current_paths, len(people), ledger)
    ledger.figures = {
        "files": {path: [counts[path], changes.lines[path]] for path in list(counts)[:KEPT_FILES]},
        "heat": heat(dict(list(counts.items())[:KEPT_FILES])),
        "weeks": weeks,
        "commits": total,
        "read": changes.read,
        "authors": people[:12],
        "people": len(people),
    }
    context.progress(1, f"commits read: {changes.read:,}")
    return ledger.outcome()


def heat(commits: dict[str, int]) -> dict[str, float]:
    """0 to 1 for each file: its commits relative to the most changed file, on a logarithmic scale; one commit is 0."""
    most = max(commits.values(), default=1)
    return {path: round(math.log(count) / math.log(max(2, most)), 2) for path, count in commits.items() if count > 1}


def changes_of(root: Path) -> RecentChanges:
    """Read `git log --numstat` from the newest commit back, following renames, within limits of number and time."""
    changes = RecentChanges()
    current_name: dict[str, str] = {}
    log = git.records(
        root, "log", "--no-merges", "--numstat", "-M", "-z", "--no-ext-diff", "--no-textconv",
        "--format=%x01%aN", f"-n{MAX_COMMITS}",
        seconds=SECONDS,
    )  # fmt: skip
    author = ""
    touched: list[tuple[str, int]] = []
    try:
        for record in log:
            record = record.lstrip(b"\n")
            if record.startswith(b"\x01"):
                _count(changes, author, touched)
                author, touched = record[1:].decode(errors="replace").strip(), []
                changes.read += 1
                continue
            added, _, rest = record.partition(b"\t")
            removed, _, name = rest.partition(b"\t")
            if not added:
                continue
            lines = sum(int(number) for number in (added, removed) if number.isdigit())
            if name:
                path = tree.displayable(name)
            else:
                old, new = tree.displayable(next(log, b"")), tree.displayable(next(log, b""))
                path = new
                current_name[old] = current_name.get(new, new)
            touched.append((current_name.get(path, path), lines))
    except TimeoutError:
        changes.complete = False
    _count(changes, author, touched)
    return changes


def activity(root: Path) -> tuple[list[int], int, list[dict[str, object]]]:
    """Commits in each of the 104 weeks up to the newest commit, the total, and the authors (most commits first)."""
    times: list[int] = []
    people: Counter[str] = Counter()
    for record in git.records(root, "log", "--no-merges", "-z", "--format=%ct%x01%aN", "-n200000", seconds=SECONDS):
        seconds, _, name = record.decode(errors="replace").partition("\x01")
        if seconds.strip().lstrip("-").isdigit():
            times.append(int(seconds))
            people[name.strip()] += 1
    weeks = [0] * 104
    newest = min(max(times, default=0), int(time.time()))
    for time_s in times:
        week = (newest - time_s) // WEEK
        if 0 <= week < 104:
            weeks[103 - week] += 1
    return (
        weeks,
        len(times),
        [{"name": tree.displayable(name.encode()), "commits": number} for name, number in people.most_common(200)],
    )


def _count(changes: RecentChanges, author: str, touched: list[tuple[str, int]]) -> None:
    if len(touched) > BULK:
        changes.bulk += 1
        return
    for path, lines in touched:
        changes.commits[path] += 1
        changes.lines[path] += lines
        changes.authors[path.partition("/")[0] if "/" in path else "."][author] += 1


def _add_single_authors(changes: RecentChanges, current_paths: set[str], people: int, ledger: Ledger) -> None:
    """Report folders with one author, but only in projects with enough people for others to know them."""
    folders = {path.partition("/")[0] for path in current_paths if "/" in path and not path.startswith(".")}
    for folder, authors in sorted(changes.authors.items()):
        changed = sum(authors.values())
        name, most = authors.most_common(1)[0]
        if people >= 4 and folder in folders and changed >= 60 and most / changed >= 0.9:
            detail = f"{most * 100 // changed} % of the {changed:,} recent changes below {folder}/ are by {name}"
            ledger.add(SINGLE_AUTHOR, file=folder + "/", detail=detail)
