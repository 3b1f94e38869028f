"""Expands drafts into specs, one for each combination of a matrix, and does the checks that need the expanded plan."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from fleet import errors
from missions.plan import masking, templates
from missions.plan.document.deadline import Deadline
from missions.plan.document.parsing import MAX_EXPANSION
from missions.plan.graph import fields, matrix
from missions.plan.graph.drafts import Draft
from missions.plan.problems import Path, Problems, quoted
from missions.plan.specs import Concurrency, PlanContext, SortieSpec
from missions.plan.values import Json


def check_size(
    *, drafts: Sequence[Draft], default_env: Mapping[str, Any], context: PlanContext, problems: Problems
) -> bool:
    """Whether the expanded plan is small enough.

    Matrices and defaults repeat their texts in every sortie, and the needs between two matrices are multiplied.
    """
    default_chars = len(json.dumps(default_env))
    total = 0
    for draft in drafts:
        repeated = default_chars
        if len(draft.combinations) > 1:
            own = {key: value for key, value in draft.data.items() if key not in ("matrix", "needs")}
            repeated += len(json.dumps(own))
        total += len(draft.combinations) * repeated
    if total > (allowed := MAX_EXPANSION * context.max_bytes):
        message = f"With all matrices and defaults expanded, the plan has {total:,} characters; at most {allowed:,} are allowed."
        problems.add(("sorties",), message, "Move long texts into files.")
        return False
    edges = sum(len(draft.keys) * sum(map(len, draft.groups.values())) for draft in drafts)
    if edges > context.max_needs:
        message = f"The sorties have {edges:,} needs in all; at most {context.max_needs:,} are allowed."
        fix = "Add a sortie between the two groups, which needs the first one and is needed by the second."
        problems.add(("sorties",), message, fix)
        return False
    return True


def check_outputs(*, drafts: Iterable[Draft], problems: Problems) -> None:
    for draft in drafts:
        for index, output in enumerate(draft.data.get("outputs", ())):
            for path in _expand_text(draft, output, problems.deadline) if output is not None else ():
                fields.check_output(value=path, path=(*draft.path, "outputs", index), problems=problems)


def check_patterns(*, drafts: Iterable[Draft], problems: Problems) -> None:
    for draft in drafts:
        for key in ("touches", "reads"):
            for index, pattern in enumerate(draft.data.get(key, ())):
                for text in _expand_text(draft, pattern, problems.deadline) if pattern is not None else ():
                    fields.check_pattern(value=text, path=(*draft.path, key, index), problems=problems)


def check_concurrency_keys(*, drafts: Iterable[Draft], broken: set[Path], problems: Problems) -> None:
    """Check the length of each key, and that a key has the same limit everywhere."""
    first: dict[str, tuple[int, str]] = {}
    for draft in drafts:
        concurrency, path = draft.data.get("concurrency", {}), (*draft.path, "concurrency")
        if "key" not in concurrency:
            continue
        limit = concurrency.get("limit", 1)
        for key in _expand_text(draft, concurrency["key"], problems.deadline):
            if len(key) > matrix.MAX_KEY:
                message = f"The key {quoted(key)} has {len(key)} characters; at most {matrix.MAX_KEY} are allowed."
                problems.add(path, message, "Use shorter values.")
            if (*path, "limit") in broken:
                continue
            other_limit, other_name = first.setdefault(key, (limit, draft.name))
            if other_limit != limit:
                message = f"The key {quoted(key)} has the limit {limit} here and {other_limit} in {other_name}."
                problems.add(path, message, "Use one limit for each key.")


def expand(*, draft: Draft, default_env: Mapping[str, Any], priority: int, deadline: Deadline) -> Iterator[SortieSpec]:
    """The specs of a valid draft. `priority` is that of the mission, or of the sortie that adds this one."""
    data = draft.data
    variables = {**default_env, **data.get("env", {})}
    env = {name: str(masking.value_of(entry)) for name, entry in variables.items()}
    secret_env = frozenset(name for name, entry in variables.items() if masking.is_secret(entry))
    arguments, prompt, cwd = data.get("with", {}), data.get("prompt"), data.get("cwd")
    outputs, touches, reads = data.get("outputs", []), data.get("touches", []), data.get("reads", [])
    for key, combination in zip(draft.keys, draft.combinations, strict=True):
        deadline.check()
        fill = partial(_fill, combination)
        yield SortieSpec(
            key=key,
            name=draft.name,
            agent_type=data.get("agent", ""),
            driver=draft.driver,
            groups=draft.groups,
            matrix_needs=draft.matrix_needs,
            matrix=combination,
            run=_command(data.get("run"), combination, fill),
            call=data.get("call"),
            prompt=None if prompt is None else templates.as_text(fill(prompt)),
            arguments=fill(arguments),
            verify=_command(data.get("verify"), combination, fill),
            env={name: templates.as_text(value) for name, value in fill(env).items()},
            secret_env=secret_env,
            cwd=None if cwd is None else templates.as_text(fill(cwd)),
            outputs=tuple(str(output) for output in fill(outputs)),
            allow_failure=data.get("allow_failure", False),
            always="if" in data,
            priority=data.get("priority", priority),
            timeout_s=draft.timeout_s,
            silence_s=draft.silence_s,
            alert_silence_s=draft.alert_silence_s,
            retry=draft.retry,
            concurrency=_concurrency(data.get("concurrency"), fill),
            run_at=draft.run_at,
            touches=tuple(str(pattern) for pattern in fill(touches)),
            reads=tuple(str(pattern) for pattern in fill(reads)),
            changes=data.get("changes", "required" if prompt is not None else "optional"),
            workspace=data.get("workspace", True),
        )


def _command(value: Any, combination: Mapping[str, Json], fill: Callable[[Any], Any]) -> str | tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, list):
        return tuple(templates.as_text(item) for item in fill(value))
    return templates.shell_text(text=value, matrix=combination)


def _concurrency(value: Mapping[str, Any] | None, fill: Callable[[Any], Any]) -> Concurrency | None:
    if value is None:
        return None
    return Concurrency(key=templates.as_text(fill(value["key"])), limit=value.get("limit", 1))


def _expand_text(draft: Draft, text: str, deadline: Deadline) -> Iterable[str]:
    """The text for each combination; nothing if its templates are invalid, because that problem is already recorded."""
    if "{{" not in text:
        yield text
        return
    for combination in draft.combinations:
        deadline.check()
        try:
            yield templates.as_text(templates.fill_matrix(value=text, matrix=combination))
        except (errors.Invalid, ValueError):
            return


def _fill(combination: dict[str, Json], value: Any) -> Any:
    return templates.fill_matrix(value=value, matrix=combination) if combination and value else value
