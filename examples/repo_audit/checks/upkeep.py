"""Finds TODO comments, files that should not be committed, files that do not parse, and problems of CI and containers."""

from __future__ import annotations

import json
import re
import time
import tomllib
from collections import defaultdict
from pathlib import PurePosixPath

import yaml

from agents.callables import Context, register
from examples.repo_audit.repository import git, tree
from examples.repo_audit.results import rules
from examples.repo_audit.results.findings import Ledger, Outcome

CONFLICT = rules.get("upkeep:conflict")
TODO = rules.get("upkeep:todo")
OLD_TODO = rules.get("upkeep:old-todo")
ARTEFACT = rules.get("upkeep:artefact")
BIG = rules.get("upkeep:big-file")
DUPLICATE = rules.get("upkeep:duplicate")
DANGLING_LINK = rules.get("upkeep:dangling-link")
ABSOLUTE_LINK = rules.get("upkeep:absolute-link")
CASE_COLLISION = rules.get("upkeep:case-collision")
SYNTAX_ERROR = rules.get("upkeep:does-not-parse")
NO_CI = rules.get("upkeep:no-ci")
CI_INJECTION = rules.get("upkeep:ci-injection")
CI_TARGET = rules.get("upkeep:ci-target")
CI_BRANCH = rules.get("upkeep:ci-branch")
DOCKER_LATEST = rules.get("upkeep:docker-latest")
CURL_PIPE = rules.get("upkeep:curl-pipe")
DOCKER_ROOT = rules.get("upkeep:docker-root")

_CONFLICT_START, _CONFLICT_END = re.compile(r"^<{7} \S", re.M), re.compile(r"^>{7} \S", re.M)
_TODO = re.compile(r"(?:#|//|/\*|<!--|--|;|\*|\{#)\s*(?:@)?(TODO|FIXME|XXX|HACK)\b[:( ]?(.{0,120})")
_ARTEFACTS = re.compile(
    r"(^|/)(__pycache__|\.idea|\.pytest_cache|\.mypy_cache|\.ruff_cache|node_modules|\.gradle|htmlcov|\.tox|\.venv|venv)/"
    r"|\.(pyc|pyo|class|o|obj|so|dylib|dll|exe|swp|orig|rej|log|tmp|bak)$|(^|/)(\.DS_Store|Thumbs\.db|npm-debug\.log|\.coverage|core)$|~$"
    r"|\.egg-info/"
)
_CI = re.compile(
    r"(\.github/workflows|\.circleci|\.buildkite|\.ci|ci|\.teamcity|\.forgejo|\.gitea|\.builds)/"
    r"|(\.gitlab-ci|azure-pipelines|jenkinsfile|bitbucket-pipelines|\.woodpecker|\.?zuul)"
    r"|(\.travis|\.drone|\.?appveyor|\.cirrus|\.build)\.yml$"
)
_UNTRUSTED = re.compile(
    r"\$\{\{[^}]*github\.(event\.(issue\.(title|body)|pull_request\.(title|body|head\.(ref|label|repo\.default_branch))|comment\.body|review\.body"
    r"|review_comment\.body|pages\.[^}]*page_name|head_commit\.(message|author\.(email|name))|discussion\.(title|body))|head_ref)\b[^}]*\}\}"
)
MAX_BLAMED = 40  # files with TODO comments whose age is read
SECONDS = 40.0


@register
def inspect(context: Context) -> Outcome:
    """The checks that are not specific to one language."""
    repository = tree.from_context(context)
    ledger = Ledger()
    todos: dict[str, list[tuple[tree.File, int, str]]] = defaultdict(list)
    for number, (file, text) in enumerate(tree.texts(repository.files)):
        if number % 500 == 0:
            context.progress(
                0.7 * number / max(1, len(repository.files)), f"{number:,} of {len(repository.files):,} files"
            )
        ledger.checked_count += 1
        _check_conflict_markers(file, text, ledger)
        if file.role == "product":
            for line, comment in todo_comments(text):
                todos[file.path].append((file, line, comment))
            _check_syntax(file, text, ledger)
        if file.path.startswith(".github/workflows/"):
            workflow(file, text, ledger)
        elif file.language == "Dockerfile" and file.role == "product":
            dockerfile(file, text, ledger)
    context.progress(0.7, "reading the age of TODO comments")
    _add_todos(repository, todos, ledger)
    _check_names(repository, ledger)
    _check_sizes(repository, ledger)
    code = any(
        file.language
        for file in repository.files
        if file.role == "product" and file.language not in ("Markdown", "Text")
    )
    if code and not any(_CI.match(path.lower()) for path in repository.every_path):
        ledger.add(NO_CI)
    context.progress(1, f"files checked: {ledger.checked_count:,}")
    return ledger.outcome()


def todo_comments(text: str) -> list[tuple[int, str]]:
    """The TODO comments of a text: line and wording."""
    if "TODO" not in text and "FIXME" not in text and "XXX" not in text and "HACK" not in text:
        return []
    return [
        (number, f"{match[1]} {match[2].strip(' :-()')}".strip())
        for number, line in enumerate(text.splitlines(), 1)
        if len(line) < 500 and (match := _TODO.search(line))
    ]


def workflow(file: tree.File, text: str, ledger: Ledger) -> None:
    """Check a workflow of GitHub Actions."""
    try:
        document = yaml.load(text, Loader=yaml.CSafeLoader) if text.count("*") < 50 else None
    except (yaml.YAMLError, ValueError, RecursionError):
        return
    if not isinstance(document, dict):
        return
    lines = text.splitlines()
    steps = [
        step
        for job in _values(document.get("jobs"))
        if isinstance(job, dict)
        for step in job.get("steps") or []
        if isinstance(step, dict)
    ]
    for step in steps:
        script = str(step.get("run") or "")
        if match := _UNTRUSTED.search(script):
            ledger.add(
                CI_INJECTION,
                file=file.path,
                line=_line_of(lines, match[0]),
                role="product",
                detail=f"{match[0]} in a script",
            )
        uses = str(step.get("uses") or "")
        if re.search(r"@(main|master|develop|trunk|HEAD)$", uses):
            ledger.add(CI_BRANCH, file=file.path, line=_line_of(lines, uses), role="product", detail=f"uses {uses}")
    triggers = document.get("on", document.get(True))
    if "pull_request_target" in (triggers if isinstance(triggers, dict | list) else [triggers]):
        for step in steps:
            reference = str((step.get("with") or {}).get("ref", "")) if isinstance(step.get("with"), dict) else ""
            if "checkout" in str(step.get("uses")) and ("head" in reference or "refs/pull" in reference):
                ledger.add(CI_TARGET, file=file.path, line=_line_of(lines, reference), role="product")


def dockerfile(file: tree.File, text: str, ledger: Ledger) -> None:
    stages: set[str] = set()
    user = ""
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r"(?i)\s*FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?", line):
            image, name = match[1], (match[2] or "").lower()
            floating = image.endswith(":latest") or ":" not in image.rpartition("/")[2]
            if floating and "$" not in image and "@" not in image and image.lower() not in stages | {"scratch"}:
                ledger.add(DOCKER_LATEST, file=file.path, line=number, role=file.role, detail=f"FROM {image}")
            stages.add(name)
            user = "nonroot" if "nonroot" in image or "distroless" in image else ""
        elif match := re.match(r"(?i)\s*USER\s+(\S+)", line):
            user = match[1]
        if re.search(r"\b(curl|wget)\b[^|;&]*\|\s*(sudo\s+)?(ba|z|da)?sh\b", line):
            ledger.add(CURL_PIPE, file=file.path, line=number, role=file.role)
    if stages and user.split(":")[0] in ("", "root", "0"):
        ledger.add(DOCKER_ROOT, file=file.path, role=file.role, detail="")


def _check_conflict_markers(file: tree.File, text: str, ledger: Ledger) -> None:
    if file.role not in ("product", "docs") or "<<<<<<< " not in text or not _CONFLICT_END.search(text):
        return
    start = _CONFLICT_START.search(text)
    if start and re.search(r"^={7}$", text, re.M):
        ledger.add(CONFLICT, file=file.path, line=text.count("\n", 0, start.start()) + 1, role=file.role)


def _add_todos(repository: tree.Tree, todos: dict[str, list[tuple[tree.File, int, str]]], ledger: Ledger) -> None:
    """Report TODO comments. Their age is read with git blame in the files with the most of them, for a limited time."""
    deadline = time.monotonic() + SECONDS
    commits = git.has_commits(repository.root)
    ages: dict[tuple[str, int], float] = {}
    for path in sorted(todos, key=lambda path: -len(todos[path]))[:MAX_BLAMED] if commits else []:
        if time.monotonic() > deadline:
            ledger.notes.append("TODO comments: the age of some was not read for lack of time.")
            break
        lines = [line for _file, line, _comment in todos[path]][:50]
        ages.update({(path, line): age for line, age in _ages(repository, todos[path][0][0], lines, deadline).items()})
    for path, comments in todos.items():
        for file, line, comment in comments:
            years = ages.get((path, line), 0.0)
            detail = f"{comment} ({years:.0f} years old)" if years >= 2 else comment
            ledger.add(OLD_TODO if years >= 3 else TODO, file=file.path, line=line, role=file.role, detail=detail)
    ledger.figures = {
        "todos": sum(map(len, todos.values())),
        "oldest_years": round(max(ages.values(), default=0.0), 1),
    }


def _ages(repository: tree.Tree, file: tree.File, lines: list[int], deadline: float) -> dict[int, float]:
    """Years since each line was written, by git blame of the newest commit, which runs no filters."""
    ranges = [f"-L{line},{line}" for line in lines]
    name = str(file.disk.relative_to(repository.root))
    ages: dict[int, float] = {}
    line, seconds = 0, 0
    try:
        options = ("--line-porcelain", "--no-textconv", *ranges, "HEAD", "--", name)
        remaining_s = max(1.0, deadline - time.monotonic())
        blame = git.records(repository.root, "blame", *options, seconds=remaining_s, separator=b"\n")
        for record in blame:
            if re.match(rb"[0-9a-f]{40} \d+ \d+", record):
                line = int(record.split(b" ")[2])
            elif record.startswith(b"author-time "):
                seconds = int(record[12:])
            elif record.startswith(b"\t"):
                ages[line] = (time.time() - seconds) / (365.25 * 86_400)
    except (TimeoutError, ValueError, OSError):
        return ages
    return ages


def _check_names(repository: tree.Tree, ledger: Ledger) -> None:
    folded: dict[str, str] = {}
    for path in repository.every_path:
        if path.lower() in folded:
            ledger.add(CASE_COLLISION, file=path, detail=f"{path} and {folded[path.lower()]}")
        folded[path.lower()] = path
        if _ARTEFACTS.search(path) and tree.role(path) == "product":
            ledger.add(ARTEFACT, file=path, detail=path)
    for path, target in repository.links:
        if tree.role(path) != "product":
            continue
        if target.startswith("/"):
            ledger.add(ABSOLUTE_LINK, file=path, detail=f"{path} → {target}")
        elif not (repository.root / path).exists():
            ledger.add(DANGLING_LINK, file=path, detail=f"{path} → {target}")


def _check_sizes(repository: tree.Tree, ledger: Ledger) -> None:
    for file in repository.large:
        if file.size > 5_000_000:
            ledger.add(BIG, file=file.path, role=file.role, detail=f"{file.path}: {file.size / 1e6:,.0f} MB")
    by_blob: dict[str, list[tree.File]] = defaultdict(list)
    for file in repository.files:
        if file.size >= 3_000 and file.role == "product" and file.language:
            by_blob[file.blob].append(file)
    for duplicates in by_blob.values():
        if len(duplicates) > 1:
            ledger.add(
                DUPLICATE,
                file=duplicates[0].path,
                lines=len(duplicates),
                detail=" = ".join(file.path for file in duplicates[:4]),
            )
    ledger.figures["largest"] = [
        [file.path, file.size] for file in sorted(repository.large, key=lambda file: -file.size)[:10]
    ]


def _check_syntax(file: tree.File, text: str, ledger: Ledger) -> None:
    """Report JSON, TOML and YAML that does not parse. Files with template marks or comments are skipped."""
    name = PurePosixPath(file.path).name
    if "{{" in text or "{%" in text or "<%" in text or "${" in text:
        return
    message = ""
    try:
        if (
            name.endswith(".json")
            and not name.startswith(("tsconfig", "jsconfig", ".", "devcontainer"))
            and "/." not in "/" + file.path
        ):
            if text.strip() and not re.search(r"^\s*(//|/\*)|,\s*[}\]]", text, re.M):
                json.loads(text.removeprefix("\ufeff"))
        elif name.endswith(".toml"):
            tomllib.loads(text)
        elif name.endswith((".yml", ".yaml")):
            for _event in yaml.parse(text, Loader=yaml.CSafeLoader):
                pass
    except json.JSONDecodeError as error:
        message = f"{name} does not parse: {error.msg} at line {error.lineno}"
    except tomllib.TOMLDecodeError as error:
        message = f"{name} does not parse: {error}"
    except yaml.MarkedYAMLError as error:
        message = (
            f"{name} does not parse: {error.problem} at line {error.problem_mark.line + 1 if error.problem_mark else 1}"
        )
    except (yaml.YAMLError, RecursionError):
        message = f"{name} does not parse"
    if message:
        line = re.search(r"line (\d+)", message)
        ledger.add(SYNTAX_ERROR, file=file.path, line=int(line[1]) if line else 0, role=file.role, detail=message)


def _values(mapping: object) -> list[object]:
    return list(mapping.values()) if isinstance(mapping, dict) else []


def _line_of(lines: list[str], text: str) -> int:
    return next((number for number, line in enumerate(lines, 1) if text.splitlines()[0] in line), 0) if text else 0
