"""Checks of a sortie's fields that the schema cannot express, and the final values of these fields."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping, Sequence, Set
from datetime import UTC, datetime
from typing import Any

from fleet import humanise
from missions.plan import durations, templates
from missions.plan.problems import Path, Problems, listed, quoted
from missions.plan.specs import InputSpec, PlanContext, Retry
from missions.plan.values import Json

MAX_OUTPUT = 500  # characters of the path of an artifact
KINDS = {"run": "command", "call": "python", "prompt": "prompt"}  # the driver of each kind of work
WORK = KINDS.keys()

# The references that each field may contain. A `run` or `verify` that is a string goes to a shell: only MATRIX is safe.
MATRIX = frozenset({"matrix"})
EVERYWHERE = frozenset({"needs", "inputs", "matrix", "mission", "sortie"})
ALLOWED: Mapping[str, frozenset[str]] = {
    "run": EVERYWHERE,
    "verify": EVERYWHERE,
    "with": EVERYWHERE,
    "prompt": EVERYWHERE,
    "env": EVERYWHERE,
    "cwd": frozenset({"inputs", "matrix"}),
    "outputs": MATRIX,
    "touches": MATRIX,
    "reads": MATRIX,
    "concurrency": MATRIX,
}
DEFAULTS_ALLOWED: Mapping[str, frozenset[str]] = {
    "env": frozenset({"inputs", "mission", "sortie"}),
    "cwd": frozenset({"inputs"}),
}


def check_templates(
    *,
    value: Any,
    path: Path,
    allowed: frozenset[str],
    needs: Collection[str] | None,
    inputs: Mapping[str, InputSpec] | Collection[str],
    axes: Mapping[str, Sequence[Json]],
    problems: Problems,
    all_axes: bool = True,
    shell: bool = False,
) -> None:
    """Add a problem for each reference in `value` that is invalid.

    `needs` is None if the needs are invalid; then any name is accepted. `axes`: the axes of the matrix with their
    values; there may be others unless `all_axes`. `shell`: a shell interprets the value, so no data may become part of
    it.
    """
    for where, text in templates.texts(value, path):
        problems.deadline.check()
        try:
            references = list(dict.fromkeys(templates.references(text)))
        except ValueError as error:
            fix = 'Write a reference such as {{ needs.NAME.result }}, or \\{{ for a literal "{{".'
            problems.add(where, str(error), fix)
            continue
        for reference in references:
            problems.deadline.check()
            if shell and reference.root in templates.ROOTS - MATRIX:
                message = f"{{{{ {reference} }}}} would become part of a shell command, where it could run anything."
                problems.add(where, message, 'Put it in env: and use "$NAME", or give the command as a list.')
                continue
            if not all_axes and reference.root == "matrix" and not (reference.steps and reference.steps[0] in axes):
                continue
            message, fix = _reference_problem(reference, allowed, needs, inputs, axes, problems)
            if message:
                problems.add(where, message, fix)
            elif shell:
                for value in axes[str(reference.steps[0])]:
                    problems.deadline.check()
                    if not templates.is_safe_in_shell(value):
                        message = f"The value {quoted(value)} of {reference} has characters that the shell interprets."
                        problems.add(where, message, 'Put it in env: and use "$NAME", or give the command as a list.')


def _reference_problem(
    reference: templates.Reference,
    allowed: frozenset[str],
    needs: Collection[str] | None,
    inputs: Collection[str],
    axes: Collection[str],
    problems: Problems,
) -> tuple[str, str]:
    """What is wrong with a reference, and how to fix it; two empty strings if it is valid."""
    root, steps = reference.root, reference.steps
    text = f"{{{{ {reference} }}}}"
    if root not in templates.ROOTS:
        start = f'Start with {listed(sorted(allowed), joint="or")}, or write \\{{{{ for a literal "{{{{".'
        return f"{text} is not a known reference.", problems.did_you_mean(root, templates.ROOTS) or start
    if root not in allowed:
        return f"{text} cannot be used here.", f"Only {listed(sorted(allowed))} can be used here."
    first = steps[0] if steps and isinstance(steps[0], str) else ""
    if root == "mission" or root == "sortie":
        attribute = "name" if root == "mission" else "key"
        if steps == (attribute,):
            return "", ""
        return f"{text} is not a known reference.", f"Write {{{{ {root}.{attribute} }}}}."
    if not first:
        return f"{text} is not a known reference.", f"Write {{{{ {root}.NAME }}}}."
    if root == "inputs" and first not in inputs:
        fix = problems.suggestion(first, inputs) or "Declare it under inputs:."
        return f"{quoted(first)} is not an input of this plan.", fix
    if root == "matrix":
        if first not in axes:
            fix = problems.suggestion(first, axes) or "Give the sortie a matrix."
            return f"{quoted(first)} is not an axis of this sortie's matrix.", fix
        if len(steps) > 1:
            return f"{text}: a matrix value has no fields or items.", f"Write {{{{ matrix.{first} }}}}."
    if root == "needs" and needs is not None:
        if first not in needs:
            fix = problems.did_you_mean(first, needs) or f"Add {first} to its needs."
            return f"{text}: {quoted(first)} is not in the needs of this sortie.", fix
        if len(steps) < 2 or steps[1] != "result":
            return f"{text} is not a known reference.", f"Write {{{{ needs.{first}.result }}}}."
    return "", ""


def duration(*, data: Mapping[str, Any], key: str, path: Path, problems: Problems) -> float | None:
    """The duration in seconds; None if the key is missing or its value is invalid."""
    value = data.get(key)
    if value is None:
        return None
    try:
        return durations.seconds(value)
    except ValueError as error:
        fix = "Write 90s, 10m, 1h30m or a number of seconds."
        problems.add((*path, key), f"{quoted(value)} {error}.", fix)
        return None


def retry(*, data: Mapping[str, Any], path: Path, problems: Problems) -> Retry:
    """The retry policy of a sortie, with defaults for missing keys."""
    default = Retry()
    backoff_s = duration(data=data, key="backoff", path=path, problems=problems)
    max_s = duration(data=data, key="max", path=path, problems=problems)
    result = Retry(
        max_attempts=data.get("max_attempts", default.max_attempts),
        backoff_s=default.backoff_s if backoff_s is None else backoff_s,
        factor=float(data.get("factor", default.factor)),
        max_s=max(default.max_s, backoff_s or 0.0) if max_s is None else max_s,
        jitter=data.get("jitter", default.jitter),
    )
    if result.max_s < result.backoff_s:
        longest, first = humanise.duration(result.max_s), humanise.duration(result.backoff_s)
        message = f"The longest wait ({longest}) is shorter than the first ({first})."
        problems.add((*path, "max"), message, "Raise max, or lower backoff.")
    return result


def run_at(*, value: str, path: Path, problems: Problems) -> datetime | None:
    """A time with a timezone; None if it is invalid."""
    fix = "Write it as 2030-01-31T06:00:00+01:00 or 2030-01-31T05:00:00Z."
    try:
        when = datetime.fromisoformat(value)
        aware = when.utcoffset() is not None
        when.astimezone(UTC)  # as Postgres stores it; fails in the first and the last hours that Python can represent
    except (ValueError, OverflowError, OSError):
        problems.add(path, f"{quoted(value)} is not a time.", fix)
        return None
    if not aware:
        problems.add(path, f"{quoted(value)} has no timezone.", fix)
        return None
    return when


def check_output(*, value: str, path: Path, problems: Problems) -> None:
    """Check that an output is a path below the sortie's folder that fits its database column."""
    fix = "Give a path below the sortie's folder, such as build/report.html."
    if len(value) > MAX_OUTPUT:
        message = f"The output {quoted(value)} has {len(value)} characters; at most {MAX_OUTPUT} are allowed."
        problems.add(path, message, "Give a shorter path.")
    if value.startswith(("/", "~")) or "\\" in value:
        problems.add(path, f"The output {quoted(value)} is not a relative path.", fix)
    elif ".." in value.split("/") or posixpath.normpath(value) == ".":
        problems.add(path, f"The output {quoted(value)} is not below the sortie's folder.", fix)


PATTERN_FIX = "Give a path within the repository, such as src/api/** or docs/*.md."


def pattern_problem(value: str) -> str:
    """What is wrong with a pattern of `touches` or `reads`, which must stay within the repository; "" if nothing is."""
    parts = value.removesuffix("/").split("/")
    if value.startswith("!"):
        return f"The pattern {quoted(value)} excludes files, which a reservation cannot do."
    if value.startswith(("/", "~")) or "\\" in value:
        return f"The pattern {quoted(value)} is not relative to the repository."
    if ".." in parts:
        return f"The pattern {quoted(value)} leaves the repository."
    if ".git" in parts:
        return f"The pattern {quoted(value)} names git's own files."
    if "" in parts or "." in parts:
        return f"The pattern {quoted(value)} has an empty part."
    return ""


def check_pattern(*, value: str, path: Path, problems: Problems) -> None:
    if problem := pattern_problem(value):
        problems.add(path, problem, PATTERN_FIX)


def check_workspace(*, sortie: Mapping[str, Any], path: Path, workspace: bool, problems: Problems) -> None:
    """Check the keys that need a workspace, and those that cannot be combined with one."""
    if not workspace:
        for key in ("touches", "reads", "changes"):
            if sortie.get(key):
                problems.add((*path, key), "The plan has no workspace.", "Add workspace: {repository: .} to the plan.")
        return
    if sortie.get("workspace") is False:
        for key in ("touches", "reads", "changes"):
            if sortie.get(key):
                problems.add((*path, key), "The sortie has no copy (workspace: false).", f"Remove {key} or workspace.")
    elif _leaves_copy(str(sortie.get("cwd", ""))):
        message = f"{quoted(sortie['cwd'])} is not in the sortie's copy of the repository."
        problems.add((*path, "cwd"), message, "Give a path within the repository, or set workspace: false.")


def _leaves_copy(cwd: str) -> bool:
    """Whether a working folder lies outside the copy. With a template, that is not known before the attempt."""
    if cwd.startswith(("/", "~")):
        return True
    return "{{" not in cwd and posixpath.normpath(cwd).split("/")[0] == ".."


def check_agent(*, name: str, path: Path, context: PlanContext, problems: Problems) -> None:
    """Check that an agent type exists, if the types are known here."""
    if context.types is not None and name not in context.types:
        fix = problems.did_you_mean(name, context.types) or f"Use {types(context)}."
        problems.add(path, f"There is no agent type {quoted(name)}.", fix)


def check_work(
    *, sortie: Mapping[str, Any], path: Path, removed: Set[str], context: PlanContext, problems: Problems
) -> str:
    """The name of the sortie's driver. `removed`: the keys that the plan gives, but whose value was invalid."""
    driver = sortie.get("driver")
    if driver is not None and driver not in context.drivers:
        fix = problems.suggestion(driver, context.drivers) or "Use run, call or prompt."
        problems.add((*path, "driver"), f"There is no driver {quoted(driver)}.", fix)
        driver = None
    kind = next((kind for key, kind in KINDS.items() if key in sortie), None)
    _check_call(sortie, path, context, problems)
    if kind == "prompt":
        _check_prompt(sortie.get("agent"), path, context, problems)
    ambiguous = sum(key in sortie or key in removed for key in WORK) > 1 or (kind is None and removed & WORK)
    if not ambiguous:  # otherwise it is not known which work `driver` and `with` belong to
        _check_driver(sortie, kind, driver, path, problems)
    return kind or driver or "command"


def _check_call(sortie: Mapping[str, Any], path: Path, context: PlanContext, problems: Problems) -> None:
    if "call" in sortie and sortie["call"] not in context.callables:
        fix = problems.suggestion(sortie["call"], context.callables) or "Register it: see docs/drivers.md."
        problems.add((*path, "call"), f"There is no registered callable {quoted(sortie['call'])}.", fix)


def _check_prompt(agent: str | None, path: Path, context: PlanContext, problems: Problems) -> None:
    facts = context.types.get(agent) if agent and context.types else None
    if facts and not facts.takes_prompt:
        fix = "Use run, or set the type's prompt command (in the admin, under Agent types)."
        problems.add((*path, "prompt"), f"The agent type {quoted(agent)} has no command that takes a prompt.", fix)


def _check_driver(
    sortie: Mapping[str, Any], kind: str | None, driver: str | None, path: Path, problems: Problems
) -> None:
    """Check that the driver fits the sortie's work (`kind`), and has arguments only if it takes them."""
    if "with" in sortie and kind in ("command", "prompt"):
        fix = "Use env: for a command, and templates for a prompt."
        problems.add((*path, "with"), "Only call and driver take arguments.", fix)
    keys = {kind: key for key, kind in KINDS.items()}
    if driver in ("command", "python") and kind is None:
        message = f"The driver {quoted(driver)} has nothing to do."
        problems.add((*path, "driver"), message, f"Give the sortie {keys[driver]}.")
    elif driver is not None and kind is not None and driver != kind:
        message = f"The driver {quoted(driver)} does not take {keys[kind]}."
        problems.add((*path, "driver"), message, "Remove one of them.")


def types(context: PlanContext) -> str:
    return listed(sorted(context.types)[:30], joint="or") if context.types else "TYPE"
