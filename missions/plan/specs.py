"""A loaded plan: its inputs, and its sorties with defaults, matrices and needs resolved."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal, TypeAlias

from missions.plan.problems import Advice
from missions.plan.values import Json

DriverName: TypeAlias = str  # "command" (run), "python" (call), "prompt", or an explicit driver such as "scripted"
InputType: TypeAlias = Literal["string", "integer", "number", "boolean", "array", "object"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeFacts:
    """The properties of an agent type that plans depend on. `takes_prompt`: it has a command that takes a prompt."""

    takes_prompt: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanContext:
    """What a plan may refer to, and its limits. `max_needs` limits the edges of the whole graph.

    `types` is None if the agent types are unknown here; then any name is accepted.
    """

    types: Mapping[str, TypeFacts] | None
    callables: Collection[str]
    drivers: Collection[str]
    max_sorties: int
    max_bytes: int
    max_added: int
    max_needs: int = 200_000
    max_s: float = math.inf  # of CPU time, to read it


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When to try again: after `backoff_s`; each further wait is `factor` times the previous one, at most `max_s`."""

    max_attempts: int = 1
    backoff_s: float = 2.0
    factor: float = 2.0
    max_s: float = 300.0
    jitter: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Concurrency:
    """At most `limit` sorties with this key run at once, over all missions."""

    key: str
    limit: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SortieSpec:
    """One sortie, ready to be stored and run.

    `groups`: for each need as the plan writes it, the keys that it stands for. A need in `matrix_needs` stands for a
    whole matrix, and its result is a list in that order. Templates of `matrix` are already replaced. Those of needs,
    inputs, mission and sortie are rendered at each attempt; they never occur in a `run` or `verify` that is a string.
    """

    key: str
    name: str
    agent_type: str
    driver: DriverName
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    matrix_needs: frozenset[str] = frozenset()
    matrix: Mapping[str, Json] = field(default_factory=dict)
    run: str | tuple[str, ...] | None = None
    call: str | None = None
    prompt: str | None = None
    arguments: Mapping[str, Json] = field(default_factory=dict)
    verify: str | tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    secret_env: frozenset[str] = frozenset()  # names in `env` whose values are secret
    cwd: str | None = None
    outputs: tuple[str, ...] = ()
    allow_failure: bool = False
    always: bool = False
    priority: int = 0
    timeout_s: float | None = None
    silence_s: float | None = None
    alert_silence_s: float | None = None
    retry: Retry = Retry()
    concurrency: Concurrency | None = None
    run_at: datetime | None = None
    touches: tuple[str, ...] = ()  # patterns of the files that it changes
    reads: tuple[str, ...] = ()  # patterns of files that no other sortie may change while it runs
    changes: Literal["required", "optional"] = "optional"
    workspace: bool = True  # whether it gets a copy of the mission's repository, if there is one
    before: tuple[str, ...] = ()  # only if added at run time: keys of sorties that now need it too

    @property
    def needs(self) -> tuple[str, ...]:
        """The keys of the sorties that this one needs, each once, in the order of the plan."""
        return tuple(dict.fromkeys(key for keys in self.groups.values() for key in keys))

    @property
    def runs_code(self) -> bool:
        """Whether it contains code, or could make an agent's program run some (by its environment, for example)."""
        return self.prompt is None or self.verify is not None or bool(self.env) or self.cwd is not None

    def as_json(self) -> dict[str, Any]:
        """A JSON object without fields at their default; `from_json` reads it."""
        data: dict[str, Any] = {}
        for name, default in _DEFAULTS.items():
            value = getattr(self, name)
            if value == default:
                continue
            if name in ("retry", "concurrency"):
                value = {part.name: getattr(value, part.name) for part in fields(value)}
            elif name == "run_at":
                value = value.isoformat()
            elif name == "groups":
                value = {need: list(keys) for need, keys in value.items()}
            elif name in ("matrix_needs", "secret_env"):
                value = sorted(value)
            elif isinstance(value, tuple):
                value = list(value)
            data[name] = value
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SortieSpec:
        """The spec that `as_json` wrote. Keys that this version does not know are ignored."""
        attributes = {name: value for name, value in data.items() if name in _DEFAULTS}
        for name in ("run", "verify", "outputs", "touches", "reads", "before"):
            if isinstance(attributes.get(name), list):
                attributes[name] = tuple(attributes[name])
        if "groups" in attributes:
            attributes["groups"] = {need: tuple(keys) for need, keys in attributes["groups"].items()}
        for name in ("matrix_needs", "secret_env"):
            if name in attributes:
                attributes[name] = frozenset(attributes[name])
        if "retry" in attributes:
            attributes["retry"] = Retry(**attributes["retry"])
        if "concurrency" in attributes:
            attributes["concurrency"] = Concurrency(**attributes["concurrency"])
        if "run_at" in attributes:
            attributes["run_at"] = datetime.fromisoformat(attributes["run_at"])
        return cls(**attributes)


_EMPTY: dict[str, Any] = {"groups": {}, "matrix": {}, "arguments": {}, "env": {}}
_DEFAULTS: dict[str, Any] = {part.name: _EMPTY.get(part.name, part.default) for part in fields(SortieSpec)}


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """An input of a mission. `default` applies only if `has_default`; an input without value and default is null."""

    name: str
    type: InputType = "string"
    required: bool = False
    has_default: bool = False
    default: Json = None
    description: str = ""
    enum: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceSpec:
    """The repository that a mission's sorties change. Texts may contain templates of inputs.

    `base` "": the branch that is checked out. `branch` "": a name made from the mission's id.
    """

    repository: str = "."
    base: str = ""
    branch: str = ""
    setup: str | tuple[str, ...] | None = None
    verify: str | tuple[str, ...] | None = None
    conflicts: Literal["rework", "manual", "fail"] = "rework"
    reworks: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A valid plan. `sorties` are in the plan's order, but each after all that it needs.

    `defaults` is kept as the plan writes it, for sorties added later.
    """

    name: str
    objective: str
    readable: tuple[str, ...]  # paths, with templates of inputs
    inputs: Mapping[str, InputSpec]
    on_failure: Literal["continue", "stop"]
    max_running: int  # how many of its sorties may run at once; 0: any number
    priority: int
    sorties: tuple[SortieSpec, ...]
    defaults: Mapping[str, Json]
    checkpoints: Mapping[str, Json] = field(default_factory=dict)  # every_s, sorties, at and on, if given
    workspace: WorkspaceSpec | None = None
    warnings: tuple[Advice, ...] = ()  # about secrets; `missions.plan.warnings` returns all

    @property
    def runs_code(self) -> bool:
        """Whether launching it requires plan.execute: a sortie runs code, or a workspace runs that of its repository."""
        return self.workspace is not None or any(sortie.runs_code for sortie in self.sorties)
