"""Checks of the single fields of a sortie that a schema cannot express, and their final values."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping, Sequence, Set
from datetime import UTC, datetime
from typing import Any

from fleet import humanise
from missions.plan import durations, templates
from missions.plan.faults import Faults, Path, listed, quoted
from missions.plan.specs import InputSpec, Retry, Surroundings
from missions.plan.values import Json

MAX_OUTPUT = 500  # characters of the path of an artifact
WORK = frozenset({"run", "call", "prompt"})

# Which references each field may hold. A `run` or `verify` that is one text goes to a shell, and may hold only MATRIX.
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
    faults: Faults,
    all_axes: bool = True,
    shell: bool = False,
) -> None:
    """Adds a fault for each reference in `value` that could not be followed.

    `needs` None: they are not known. `axes` has the names of the matrix with their values; there may be more unless
    `all_axes`. `shell`: the value is text for a shell, so that no data may become part of it.
    """
    for where, text in templates.texts(value, path):
        faults.deadline.check()
        try:
            found = list(dict.fromkeys(templates.references(text)))
        except ValueError as error:
            faults.add(where, str(error), 'Write {{ needs.NAME.result }}, say; write \\{{ for "{{" itself.')
            continue
        for reference in found:
            faults.deadline.check()
            if shell and reference.root in templates.ROOTS - MATRIX:
                fault = f"{{{{ {reference} }}}} would become shell text, which could run anything."
                faults.add(where, fault, 'Put it in env: and use "$NAME", or give the command as a list.')
                continue
            if not all_axes and reference.root == "matrix" and not (reference.steps and reference.steps[0] in axes):
                continue
            fault, fix = _wrong(reference, allowed, needs, inputs, axes, faults)
            if fault:
                faults.add(where, fault, fix)
            elif shell:
                for value in axes[str(reference.steps[0])]:
                    faults.deadline.check()
                    if not templates.is_safe_in_shell(value):
                        fault = f"The value {quoted(value)} of {reference} has characters with a meaning to the shell."
                        faults.add(where, fault, 'Put it in env: and use "$NAME", or give the command as a list.')


def _wrong(
    reference: templates.Reference,
    allowed: frozenset[str],
    needs: Collection[str] | None,
    inputs: Collection[str],
    axes: Collection[str],
    faults: Faults,
) -> tuple[str, str]:
    root, steps = reference.root, reference.steps
    shown = f"{{{{ {reference} }}}}"
    if root not in templates.ROOTS:
        fix = faults.resembling(root, templates.ROOTS) or f"Begin with {_either(allowed)}, or write \\{{{{ for itself."
        return f"{shown} names nothing.", fix
    if root not in allowed:
        return f"{shown} cannot stand here.", f"Only {_either(allowed)} can."
    first = steps[0] if steps and isinstance(steps[0], str) else ""
    if root == "mission" or root == "sortie":
        only = "name" if root == "mission" else "key"
        return ("", "") if steps == (only,) else (f"{shown} names nothing.", f"Write {{{{ {root}.{only} }}}}.")
    if not first:
        return f"{shown} names nothing.", f"Write {{{{ {root}.NAME }}}}."
    if root == "inputs" and first not in inputs:
        return f"{quoted(first)} is not an input of this plan.", faults.suggestion(first, inputs) or "Declare it."
    if root == "matrix":
        if first not in axes:
            fix = faults.suggestion(first, axes) or "Give the sortie a matrix."
            return f"{quoted(first)} is not a name of this sortie's matrix.", fix
        if len(steps) > 1:
            return f"{shown}: a value of a matrix has no parts.", f"Write {{{{ matrix.{first} }}}}."
    if root == "needs" and needs is not None:
        if first not in needs:
            near = faults.resembling(first, needs)
            return f"{shown}: {quoted(first)} is not in the needs of this sortie.", near or f"Add {first} to its needs."
        if len(steps) < 2 or steps[1] != "result":
            return f"{shown} names nothing.", f"Write {{{{ needs.{first}.result }}}}."
    return "", ""


def _either(names: Collection[str]) -> str:
    return listed(sorted(names), joint="or")


def duration(*, data: Mapping[str, Any], key: str, path: Path, faults: Faults) -> float | None:
    """Seconds, or None where the key is not there."""
    value = data.get(key)
    if value is None:
        return None
    try:
        return durations.seconds(value)
    except ValueError as error:
        fix = "Write 90s, 10m, 1h30m or a number of seconds, above zero and at most 365d."
        faults.add((*path, key), f"{quoted(value)} {error}.", fix)
        return None


def retry(*, data: Mapping[str, Any], path: Path, faults: Faults) -> Retry:
    """The retry of a sortie; what it leaves out stands at its default."""
    usual = Retry()
    backoff = duration(data=data, key="backoff", path=path, faults=faults)
    longest = duration(data=data, key="max", path=path, faults=faults)
    made = Retry(
        max_attempts=data.get("max_attempts", usual.max_attempts),
        backoff_s=usual.backoff_s if backoff is None else backoff,
        factor=float(data.get("factor", usual.factor)),
        max_s=max(usual.max_s, backoff or 0.0) if longest is None else longest,
        jitter=data.get("jitter", usual.jitter),
    )
    if made.max_s < made.backoff_s:
        waits = humanise.duration(made.max_s), humanise.duration(made.backoff_s)
        fault = f"The longest wait ({waits[0]}) is shorter than the first ({waits[1]})."
        faults.add((*path, "max"), fault, "Raise max, or lower backoff.")
    return made


def run_at(*, value: str, path: Path, faults: Faults) -> datetime | None:
    """A time with its timezone."""
    fix = "Write it as 2030-01-31T06:00:00+01:00 or 2030-01-31T05:00:00Z."
    try:
        when = datetime.fromisoformat(value)
        aware = when.utcoffset() is not None
        when.astimezone(
            UTC
        )  # Postgres keeps it so; some of the first and the last day of all time are out of its reach then
    except (ValueError, OverflowError, OSError):
        faults.add(path, f"{quoted(value)} is not a time.", fix)
        return None
    if not aware:
        faults.add(path, f"{quoted(value)} does not say its timezone.", fix)
        return None
    return when


def check_output(*, value: str, path: Path, faults: Faults) -> None:
    """An output is a path below the sortie's folder, not longer than its column."""
    fix = "Give a path below the sortie's folder, such as build/report.html."
    if len(value) > MAX_OUTPUT:
        fault = f"The output {quoted(value)} has {len(value)} characters; {MAX_OUTPUT} are allowed."
        faults.add(path, fault, "Give a shorter path.")
    if value.startswith(("/", "~")) or "\\" in value:
        faults.add(path, f"The output {quoted(value)} is not a relative path.", fix)
    elif ".." in value.split("/") or posixpath.normpath(value) == ".":
        faults.add(path, f"The output {quoted(value)} is not below the sortie's folder.", fix)


def check_agent(*, name: str, path: Path, surroundings: Surroundings, faults: Faults) -> None:
    """An agent type that there is, as far as anybody can say here."""
    if surroundings.types is not None and name not in surroundings.types:
        fix = faults.resembling(name, surroundings.types) or f"Write {types(surroundings)}."
        faults.add(path, f"There is no agent type {quoted(name)}.", fix)


def check_work(
    *, sortie: Mapping[str, Any], path: Path, unreadable: Set[str], surroundings: Surroundings, faults: Faults
) -> str:
    """The driver that does the sortie's work. `unreadable` names the keys that it has and that are left out here."""
    agent, driver = sortie.get("agent"), sortie.get("driver")
    if driver is not None and driver not in surroundings.drivers:
        fix = faults.suggestion(driver, surroundings.drivers) or "Use run, call or prompt."
        faults.add((*path, "driver"), f"There is no driver {quoted(driver)}.", fix)
        driver = None
    kind = "command" if "run" in sortie else "python" if "call" in sortie else "prompt" if "prompt" in sortie else None
    if "call" in sortie and sortie["call"] not in surroundings.callables:
        fix = faults.suggestion(sortie["call"], surroundings.callables) or "Register it: see docs/drivers.md."
        faults.add((*path, "call"), f"There is no registered callable {quoted(sortie['call'])}.", fix)
    facts = surroundings.types.get(agent) if agent and surroundings.types else None
    if kind == "prompt" and facts and not facts.takes_prompt:
        fix = "Use run, or have an administrator set its prompt command (an argv) in the admin under Agent types."
        faults.add((*path, "prompt"), f"The agent type {quoted(agent)} has no command that takes a prompt.", fix)
    if sum(key in sortie or key in unreadable for key in WORK) > 1 or (kind is None and unreadable & WORK):
        return kind or driver or "command"  # nobody can say what `driver` and `with` belong to
    if "with" in sortie and kind in ("command", "prompt"):
        fix = "Use env: for a command, and templates for a prompt."
        faults.add((*path, "with"), "Only call and driver take arguments.", fix)
    if driver is not None and kind is None and driver in ("command", "python"):
        work = "run" if driver == "command" else "call"
        faults.add((*path, "driver"), f"The driver {quoted(driver)} has nothing to do.", f"Give the sortie {work}.")
    elif driver is not None and kind is not None and driver != kind:
        work = "run" if kind == "command" else "call" if kind == "python" else "prompt"
        faults.add((*path, "driver"), f"The driver {quoted(driver)} does not take {work}.", "Leave one of them out.")
    return kind or driver or "command"


def types(surroundings: Surroundings) -> str:
    return listed(sorted(surroundings.types)[:30], joint="or") if surroundings.types else "TYPE"
