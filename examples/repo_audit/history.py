"""What the history tells: where work happens, who knows what, and how lively it is."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from agents.callables import Context, register
from examples.repo_audit import git, rules, tree
from examples.repo_audit.findings import Ledger, Outcome

COMMITS = 3_000  # newest commits whose changes are read
BULK = 150  # a commit that touches more files (a reformat, an import) says nothing about any of them
SECONDS = 60.0
KEPT_FILES = 2_500
WEEK = 7 * 86_400

ONE_KNOWER = rules.get("history:one-author")


@dataclass(slots=True)
class Changes:
    """What the newest commits changed, by file as it is called today."""

    commits: Counter[str] = field(default_factory=Counter)
    lines: Counter[str] = field(default_factory=Counter)
    authors: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    read: int = 0
    bulk: int = 0
    complete: bool = True


@register
def churn(context: Context) -> Outcome:
    """Commits and changed lines by file, authors by folder, commits by week over two years."""
    found = tree.of(context)
    ledger = Ledger()
    if not git.has_commits(found.root):
        ledger.notes.append("There are no commits yet, so nothing could be learned from history.")
        ledger.figures = {"files": {}, "heat": {}, "weeks": [], "commits": 0, "authors": []}
        return ledger.outcome()
    context.progress(0.1, "reading the newest commits")
    changes = changes_of(found.root)
    ledger.looked_at = changes.read
    if not changes.complete:
        ledger.notes.append(
            f"History: the changes of the newest {changes.read:,} commits were read; time was up for older ones."
        )
    if changes.bulk:
        ledger.notes.append(
            f"History: {changes.bulk} commits of more than {BULK} files (imports, reformats) do not count as changes."
        )
    context.progress(0.8, "counting all commits")
    weeks, total, people = activity(found.root)
    alive = {file.path for file in found.files}
    counts = {path: number for path, number in changes.commits.most_common() if path in alive}
    _knowers(changes, alive, len(people), ledger)
    ledger.figures = {
        "files": {path: [counts[path], changes.lines[path]] for path in list(counts)[:KEPT_FILES]},
        "heat": heat(dict(list(counts.items())[:KEPT_FILES])),
        "weeks": weeks,
        "commits": total,
        "read": changes.read,
        "authors": people[:12],
        "people": len(people),
    }
    return ledger.outcome()


def heat(commits: dict[str, int]) -> dict[str, float]:
    """0 to 1 for each file: its commits against those of the most changed one, on a logarithmic scale; one is 0."""
    most = max(commits.values(), default=1)
    return {path: round(math.log(count) / math.log(max(2, most)), 2) for path, count in commits.items() if count > 1}


def changes_of(root: Path) -> Changes:
    """Reads `git log --numstat` from the newest commit back, following renames, within bounds of number and time."""
    changes = Changes()
    today: dict[str, str] = {}
    log = git.records(
        root, "log", "--no-merges", "--numstat", "-M", "-z", "--no-ext-diff", "--no-textconv",
        "--format=%x01%aN", f"-n{COMMITS}",
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
                path = tree.shown(name)
            else:
                old, new = tree.shown(next(log, b"")), tree.shown(next(log, b""))
                path = new
                today[old] = today.get(new, new)
            touched.append((today.get(path, path), lines))
    except TimeoutError:
        changes.complete = False
    _count(changes, author, touched)
    return changes


def activity(root: Path) -> tuple[list[int], int, list[dict[str, object]]]:
    """Commits in each of the last 104 weeks up to the newest commit, all commits, and who made them (most first)."""
    ages: list[int] = []
    people: Counter[str] = Counter()
    for record in git.records(root, "log", "--no-merges", "-z", "--format=%ct%x01%aN", "-n200000", seconds=SECONDS):
        seconds, _, name = record.decode(errors="replace").partition("\x01")
        if seconds.strip().lstrip("-").isdigit():
            ages.append(int(seconds))
            people[name.strip()] += 1
    weeks = [0] * 104
    newest = min(max(ages, default=0), int(time.time()))
    for moment in ages:
        week = (newest - moment) // WEEK
        if 0 <= week < 104:
            weeks[103 - week] += 1
    return (
        weeks,
        len(ages),
        [{"name": tree.shown(name.encode()), "commits": number} for name, number in people.most_common(200)],
    )


def _count(changes: Changes, author: str, touched: list[tuple[str, int]]) -> None:
    if len(touched) > BULK:
        changes.bulk += 1
        return
    for path, lines in touched:
        changes.commits[path] += 1
        changes.lines[path] += lines
        changes.authors[path.partition("/")[0] if "/" in path else "."][author] += 1


def _knowers(changes: Changes, alive: set[str], people: int, ledger: Ledger) -> None:
    """Names a folder only where there are others who could know it:

    a project of one or two people is told once, elsewhere.
    """
    folders = {path.partition("/")[0] for path in alive if "/" in path and not path.startswith(".")}
    for folder, authors in sorted(changes.authors.items()):
        changed = sum(authors.values())
        name, most = authors.most_common(1)[0]
        if people >= 4 and folder in folders and changed >= 60 and most / changed >= 0.9:
            detail = f"{most * 100 // changed} % of the {changed:,} recent changes below {folder}/ are by {name}"
            ledger.add(ONE_KNOWER, file=folder + "/", detail=detail)
