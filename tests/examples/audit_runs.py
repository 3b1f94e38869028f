"""Creates repositories to audit, and runs the sample mission on them in this process, without services.

The plan and the sorties that it adds are parsed by the product, and the real callables run.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import examples.repo_audit
from agents import callables, discovery
from fleet import errors
from missions import plan
from missions.plan import templates
from tests.missions.plan.plans import CONTEXT

PLAN = Path(examples.repo_audit.__file__).with_name("audit.yaml")


def load() -> plan.Plan:
    return plan.load(text=PLAN.read_bytes(), context=_plan_context())


def git(place: Path, *arguments: str) -> str:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_DATE": "2026-01-05T10:00:00Z",
        "GIT_COMMITTER_DATE": "2026-01-05T10:00:00Z",
    }
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    result = subprocess.run(
        ["git", "-C", place, *identity, *arguments], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def repository(place: Path, files: Mapping[str, str | bytes], *, commit: bool = True) -> Path:
    """A repository with these files, all tracked."""
    place.mkdir(parents=True, exist_ok=True)
    git(place, "init", "-q", "-b", "main")
    for name, content in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    git(place, "add", "-A", "-f")
    if commit:
        git(place, "commit", "-q", "--allow-empty", "-m", "Begin")
    return place


@dataclass(slots=True)
class AuditRun:
    """The outcome of a run. `failed` has errors by key, `order` the keys as they ran, `folder` the report.

    `progress` has the last reported fraction and note by key.
    """

    folder: Path
    results: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    progress: dict[str, tuple[float | None, str]] = field(default_factory=dict)

    @property
    def top(self) -> dict[str, dict[str, Any]]:
        """The items of the result by title."""
        return {item["title"]: item for item in self.results["report"]["top"]}

    def text(self, name: str) -> str:
        return (self.folder / "report" / name).read_text(encoding="utf-8")


def run_audit(place: Path, folder: Path, *, top: int = 100, without: tuple[str, ...] = ()) -> AuditRun:
    """Run the whole mission on one repository. The sorties in `without` fail."""
    run = AuditRun(folder)
    inputs = {"repository": str(place), "top": top}
    waiting = {spec.key: spec for spec in load().sorties}
    groups: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    while waiting:
        spec = next(item for item in waiting.values() if not _needed(item, groups) & waiting.keys())
        del waiting[spec.key]
        run.order.append(spec.key)
        if not spec.always and any(need not in run.results for need in _needed(spec, groups)):
            run.skipped.append(spec.key)
            continue
        needs = {name: run.results.get(name) for name in spec.needs}
        needs |= {name: [run.results.get(key) for key in keys] for name, keys in groups[spec.key].items()}
        try:
            if spec.key in without:
                raise errors.Unavailable("made to fail by the test")
            result, expected = _run_sortie(spec, needs, inputs, run)
        except (errors.FleetError, subprocess.CalledProcessError) as error:
            run.failed[spec.key] = str(error)
            continue
        text = json.dumps(result, ensure_ascii=False, allow_nan=False)
        assert len(text.encode()) < 1_000_000  # also fails for text that UTF-8 cannot encode
        run.results[spec.key] = json.loads(text)
        existing = [*run.order, *waiting]
        for more in plan.load_added(
            items=expected, existing=existing, parent=spec.key, context=_plan_context(), defaults={}, inputs=inputs
        ):
            waiting[more.key] = more
            for later in more.before:
                groups[later][more.key.partition("[")[0]].append(more.key)
    return run


def _needed(spec: plan.SortieSpec, groups: Mapping[str, Mapping[str, list[str]]]) -> set[str]:
    return {*spec.needs, *(key for keys in groups.get(spec.key, {}).values() for key in keys)}


def _run_sortie(
    spec: plan.SortieSpec, needs: dict[str, Any], inputs: dict[str, Any], run: AuditRun
) -> tuple[Any, list[dict[str, Any]]]:
    scratch = run.folder / spec.key
    scratch.mkdir(parents=True)
    scope = templates.ReferenceScope(needs=needs, inputs=inputs)
    if spec.run is not None:
        argv = templates.render(value=list(spec.run), scope=scope)
        assert isinstance(argv, list)
        result = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=True, cwd=scratch)
        return {"output": result.stdout[-4_000:]}, []

    def report(fraction: float | None, note: str) -> None:
        run.progress[spec.key] = fraction, note

    context = callables.Context(needs=needs, inputs=inputs, cwd=scratch, scratch=scratch, report=report)
    arguments = templates.render(value=dict(spec.arguments), scope=scope)
    assert isinstance(arguments, dict)
    return callables.get(spec.call or "")(context, **arguments), context.added


def _plan_context() -> plan.PlanContext:
    return plan.PlanContext(
        types=CONTEXT.types,
        callables=discovery.names(),
        drivers={"command", "python"},
        max_sorties=1_000,
        max_bytes=100_000,
        max_added=100,
    )
