"""Repositories to audit, and a flight of the sample mission's plan in this process, without services.

The plan is read by the real reader, and what a sortie adds by the real one for additions; the callables really run.
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
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    done = subprocess.run(["git", "-C", place, *who, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


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
class Flight:
    """How it went: results, what went wrong, in which order; `folder` holds what the report wrote."""

    folder: Path
    results: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)

    @property
    def top(self) -> dict[str, dict[str, Any]]:
        """The items of the result by title."""
        return {item["title"]: item for item in self.results["report"]["top"]}

    def text(self, name: str) -> str:
        return (self.folder / "report" / name).read_text(encoding="utf-8")


def fly(place: Path, folder: Path, *, top: int = 100, without: tuple[str, ...] = ()) -> Flight:
    """The whole mission on one repository. The sorties in `without` are taken to have failed."""
    flight = Flight(folder)
    inputs = {"repository": str(place), "top": top}
    waiting = {spec.key: spec for spec in load().sorties}
    groups: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    while waiting:
        spec = next(item for item in waiting.values() if not _needed(item, groups) & waiting.keys())
        del waiting[spec.key]
        flight.order.append(spec.key)
        if not spec.always and any(need not in flight.results for need in _needed(spec, groups)):
            flight.skipped.append(spec.key)
            continue
        needs = {name: flight.results.get(name) for name in spec.needs}
        needs |= {name: [flight.results.get(key) for key in keys] for name, keys in groups[spec.key].items()}
        try:
            if spec.key in without:
                raise errors.Unavailable("taken to have failed")
            result, expected = _one(spec, needs, inputs, folder)
        except (errors.FleetError, subprocess.CalledProcessError) as error:
            flight.failed[spec.key] = str(error)
            continue
        text = json.dumps(result, ensure_ascii=False, allow_nan=False)
        assert len(text.encode()) < 1_000_000  # which would fail too on what UTF-8 cannot hold
        flight.results[spec.key] = json.loads(text)
        known = [*flight.order, *waiting]
        for more in plan.load_added(
            items=expected, existing=known, parent=spec.key, context=_plan_context(), defaults={}, inputs=inputs
        ):
            waiting[more.key] = more
            for later in more.before:
                groups[later][more.key.partition("[")[0]].append(more.key)
    return flight


def _needed(spec: plan.SortieSpec, groups: Mapping[str, Mapping[str, list[str]]]) -> set[str]:
    return {*spec.needs, *(key for keys in groups.get(spec.key, {}).values() for key in keys)}


def _one(
    spec: plan.SortieSpec, needs: dict[str, Any], inputs: dict[str, Any], folder: Path
) -> tuple[Any, list[dict[str, Any]]]:
    scratch = folder / spec.key
    scratch.mkdir(parents=True)
    scope = templates.Scope(needs=needs, inputs=inputs)
    if spec.run is not None:
        argv = templates.render(value=list(spec.run), scope=scope)
        assert isinstance(argv, list)
        done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=True, cwd=scratch)
        return {"output": done.stdout[-4_000:]}, []
    context = callables.Context(
        needs=needs, inputs=inputs, cwd=scratch, scratch=scratch, report=lambda fraction, note: None
    )
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
