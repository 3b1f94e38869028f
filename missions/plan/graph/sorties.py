"""From the sorties of a plan, which have passed the schema, to specs: finds the faults that need the whole graph."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from fleet import errors
from missions.plan import masking, templates
from missions.plan.document.deadline import Deadline
from missions.plan.document.parsing import SPREAD
from missions.plan.faults import Faults, Path, quoted
from missions.plan.graph import fields, matrix, ordering
from missions.plan.specs import Concurrency, Retry, SortieSpec, Surroundings
from missions.plan.values import Json

DURATIONS = ("timeout", "silence", "alert_silence")  # that a sortie has from `defaults` where it names none


@dataclass(slots=True, kw_only=True)
class Draft:
    """A sortie of the plan before its matrix is worked out."""

    name: str
    path: Path
    data: Mapping[str, Any]
    driver: str
    combinations: list[dict[str, Json]]
    timeout_s: float | None
    silence_s: float | None
    alert_silence_s: float | None
    retry: Retry
    run_at: datetime | None
    whole: bool  # nothing of its matrix was left out
    keys: tuple[str, ...] = ()
    known: frozenset[str] = frozenset()  # the keys again, to look one up
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    many: frozenset[str] = frozenset()
    needed: tuple[str, ...] = ()  # names of sorties of this plan


class Graph:
    """The sorties of one plan, or those that are added to one. `existing` holds the keys that are there already."""

    def __init__(
        self,
        *,
        defaults: Mapping[str, Any],
        inputs: Collection[str],
        surroundings: Surroundings,
        limit: int,
        faults: Faults,
        priority: int = 0,
        existing: Collection[str] = (),
    ) -> None:
        self.defaults, self.inputs, self.surroundings, self.faults = defaults, inputs, surroundings, faults
        self.limit, self.priority, self.existing = limit, priority, existing
        self._usual = {
            key: defaults[key]
            for key in ("agent", "timeout", "silence", "alert_silence", "priority", "cwd")
            if key in defaults
        }
        self._env = defaults.get("env", {})
        self._retry = defaults.get("retry", {})
        self._usual_retry = Retry()
        self._usual_durations: dict[str, float | None] = {}
        self._usual_agent_is_broken = False
        self._existing_groups: dict[str, list[str]] | None = None

    def specs(
        self, *, data: Mapping[str, Any], names: Collection[str], broken: set[Path], is_read: Callable[[Path], bool]
    ) -> tuple[SortieSpec, ...]:
        """The specs of the sorties in `data`; faults are added, and then nothing is returned.

        `names` are all the names that the plan gives, also of sorties that are left out of `data`. `broken` are the
        paths of what is left out, and `is_read` tells which of the rest is as it was written. What can be read is judged,
        whatever else is wrong.
        """
        self._check_defaults(broken)
        names = dict.fromkeys(names)  # in their order, and quick to look up
        unreadable: dict[Path, set[str]] = {}
        for path in broken:
            if len(path) > 2:
                unreadable.setdefault(path[:2], set()).add(str(path[2]))
        drafts: list[Draft] = []
        total = 0
        for name, one in data.items():
            if not isinstance(one, dict):
                continue
            drafts.append(self._draft(name, one, unreadable.get(("sorties", name), set()), is_read))
            total += len(drafts[-1].combinations)
            if total > self.limit:  # here and not behind the loop: a few bytes of a plan make thousands of combinations
                fault = f"With every matrix worked out there are {total:,} sorties or more; {self.limit:,} are allowed."
                self.faults.add(("sorties",), fault, "Split it into several plans.")
                return ()
        by_name = {draft.name: draft for draft in drafts}
        for draft in drafts:
            self._make_keys(draft)
        for draft in drafts:
            self._resolve(draft, by_name, names)
        self._check_cycles(by_name)
        if not self._bounded(drafts):
            return ()
        self._check_outputs(drafts)
        self._check_keys(drafts, broken)
        if self.faults:
            return ()
        specs = [spec for draft in drafts for spec in self._expand(draft)]
        number = {spec.key: index for index, spec in enumerate(specs)}
        needs = [[number[key] for key in spec.needs if key in number] for spec in specs]
        return tuple(specs[index] for index in ordering.ordered(needs))

    def _check_defaults(self, broken: set[Path]) -> None:
        path = ("defaults",)
        if "agent" in self.defaults:
            fields.check_agent(
                name=self.defaults["agent"], path=(*path, "agent"), surroundings=self.surroundings, faults=self.faults
            )
        self._usual_agent_is_broken = (*path, "agent") in broken
        self._usual_durations = {
            key: fields.duration(data=self.defaults, key=key, path=path, faults=self.faults) for key in DURATIONS
        }
        self._usual_retry = fields.retry(data=self._retry, path=(*path, "retry"), faults=self.faults)
        for key, allowed in fields.DEFAULTS_ALLOWED.items():
            if key in self.defaults:
                fields.check_templates(
                    value=self.defaults[key],
                    path=(*path, key),
                    allowed=allowed,
                    needs=(),
                    inputs=self.inputs,
                    axes={},
                    faults=self.faults,
                )

    def _draft(
        self, name: str, data: Mapping[str, Any], unreadable: Collection[str], is_read: Callable[[Path], bool]
    ) -> Draft:
        path = ("sorties", name)
        faults = self.faults
        axes = data.get("matrix", {})
        entire = "matrix" not in unreadable
        combinations = (
            matrix.combinations(matrix=axes, path=(*path, "matrix"), limit=self.limit, faults=faults, entire=entire)
            if axes
            else [{}]
        )
        whole = {**self._usual, **data}
        if "agent" in data:
            fields.check_agent(name=data["agent"], path=(*path, "agent"), surroundings=self.surroundings, faults=faults)
        elif "agent" not in whole and "agent" not in unreadable and not self._usual_agent_is_broken and is_read(path):
            fix = f"Add agent: {fields.types(self.surroundings)}."
            faults.add(path, "It does not say which agent type flies it.", fix)
        driver = fields.check_work(
            sortie=whole,
            path=path,
            unreadable={*unreadable, *(() if is_read(path) else fields.WORK)},
            surroundings=self.surroundings,
            faults=faults,
        )
        run_at = None
        if "run_at" in data:
            run_at = fields.run_at(value=data["run_at"], path=(*path, "run_at"), faults=faults)
        self._check_templates(path, data, matrix.values(matrix=axes, combinations=combinations), unreadable)
        durations = self._usual_durations | {
            key: fields.duration(data=data, key=key, path=path, faults=faults) for key in DURATIONS if key in data
        }
        retry = self._usual_retry
        if "retry" in data:
            retry = fields.retry(data={**self._retry, **data["retry"]}, path=(*path, "retry"), faults=faults)
        return Draft(
            name=name,
            path=path,
            data=whole,
            driver=driver,
            combinations=combinations,
            timeout_s=durations["timeout"],
            silence_s=durations["silence"],
            alert_silence_s=durations["alert_silence"],
            retry=retry,
            run_at=run_at,
            whole=entire,
        )

    def _check_templates(
        self,
        path: Path,
        data: Mapping[str, Any],
        axes: Mapping[str, Sequence[Json]],
        unreadable: Collection[str],
    ) -> None:
        needs = None if "needs" in unreadable else {need: None for need in data.get("needs", ()) if need is not None}
        for key, allowed in fields.ALLOWED.items():
            value = data.get(key)
            if value is None:
                continue
            fields.check_templates(
                value=value,
                path=(*path, key),
                allowed=allowed,
                needs=needs,
                inputs=self.inputs,
                axes=axes,
                all_axes="matrix" not in unreadable,
                faults=self.faults,
                shell=isinstance(value, str) and key in ("run", "verify"),
            )

    def _bounded(self, drafts: Sequence[Draft]) -> bool:
        """A matrix or a default repeats its texts in every sortie, and matrices multiply needs: bounds both."""
        shared = len(json.dumps(self._env))
        total = 0
        for draft in drafts:
            repeated = shared
            if len(draft.combinations) > 1:
                own = {key: value for key, value in draft.data.items() if key not in ("matrix", "needs")}
                repeated += len(json.dumps(own))
            total += len(draft.combinations) * repeated
        if total > (allowed := SPREAD * self.surroundings.max_bytes):
            fault = (
                f"With every matrix and default written out the plan has {total:,} characters; {allowed:,} are allowed."
            )
            self.faults.add(("sorties",), fault, "Move long texts into files.")
            return False
        edges = sum(len(draft.keys) * sum(map(len, draft.groups.values())) for draft in drafts)
        if edges > self.surroundings.max_needs:
            fault = f"The sorties have {edges:,} needs in all; {self.surroundings.max_needs:,} are allowed."
            fix = "Put a sortie between, which needs the many and is needed by the many."
            self.faults.add(("sorties",), fault, fix)
            return False
        return True

    def _make_keys(self, draft: Draft) -> None:
        keys = [matrix.key(name=draft.name, combination=one) for one in draft.combinations]
        for key in keys:
            if len(key) > matrix.MAX_KEY:
                fault = f"The key {quoted(key)} has {len(key)} characters; {matrix.MAX_KEY} are allowed."
                self.faults.add((*draft.path, "matrix"), fault, "Use shorter values.")
                break
        draft.keys, draft.known = tuple(keys), frozenset(keys)
        if len(draft.known) < len(keys):
            double = next(key for key, count in Counter(keys).items() if count > 1)
            self.faults.add(
                (*draft.path, "matrix"), f"{quoted(double)} is made twice.", "Remove one of the combinations."
            )
        taken = draft.name if draft.name in self.existing else next((key for key in keys if key in self.existing), None)
        if taken is not None:
            self.faults.add(draft.path, f"There is already a sortie {quoted(taken)}.", "Choose another name.")

    def _resolve(self, draft: Draft, by_name: Mapping[str, Draft], names: Collection[str]) -> None:
        many: set[str] = set()
        needed: list[str] = []
        for index, need in enumerate(draft.data.get("needs", ())):
            self.faults.deadline.check()
            if need is None:
                continue  # what stood there has had its fault
            path = (*draft.path, "needs", index)
            name = need.partition("[")[0]
            if name == draft.name:
                self.faults.add(path, "It needs itself.", "Remove this need.")
            elif name in by_name:
                needed.append(name)
                other = by_name[name]
                if need == name:
                    draft.groups[need] = other.keys
                    if "matrix" in other.data:
                        many.add(need)
                elif need in other.known:
                    draft.groups[need] = (need,)
                elif other.whole:
                    fix = self.faults.suggestion(need, other.keys) or f"Name one of them, or all with {name}."
                    self.faults.add(path, f"{quoted(need)} is not one of the sorties of {quoted(name)}.", fix)
            elif name in names:
                pass  # it is broken, which has been said
            elif need in self.existing:
                draft.groups[need] = (need,)
            elif group := self._existing_group(need):
                draft.groups[need] = group
                many.add(need)
            else:
                there = "mission" if self.existing else "plan"
                fix = self.faults.resembling(need, names) or self.faults.resembling(need, self.existing)
                if not fix and len(names) + len(self.existing) <= 30:
                    others = {*names, *self.existing} - {draft.name}
                    fix = self.faults.suggestion(need, others)
                fix = fix or f"Name a sortie that the {there} has, or remove this need."
                self.faults.add(path, f"{quoted(need)} is not a sortie of this {there}.", fix)
        draft.many = frozenset(many)
        draft.needed = tuple(needed)
        self._check_variables(draft)

    def _existing_group(self, name: str) -> tuple[str, ...]:
        if self._existing_groups is None:
            self._existing_groups = {}
            for key in self.existing:
                if "[" in key:
                    self._existing_groups.setdefault(key.partition("[")[0], []).append(key)
        return tuple(self._existing_groups.get(name, ()))

    def _check_variables(self, draft: Draft) -> None:
        if len(draft.groups) < 2:
            return
        variables: dict[str, str] = {}
        for need in draft.groups:
            variable = "".join(c if c.isascii() and c.isalnum() else "_" for c in need.upper())
            if (other := variables.setdefault(variable, need)) != need:
                fault = f"{quoted(other)} and {quoted(need)} would both be the variable FLEET_NEED_{variable}."
                self.faults.add((*draft.path, "needs"), fault, "Rename one of the two.")

    def _check_cycles(self, by_name: Mapping[str, Draft]) -> None:
        for cycle in ordering.cycles({name: draft.needed for name, draft in by_name.items()}):
            first = by_name[cycle[0]]
            needs = first.data["needs"]
            index = next(i for i, need in enumerate(needs) if need and need.partition("[")[0] == cycle[1])
            shown = " → ".join((*cycle[:10], f"… ({len(cycle) - 11:,} more)", cycle[-1]) if len(cycle) > 12 else cycle)
            fault = f"The sorties need each other in a circle: {shown}."
            self.faults.add((*first.path, "needs", index), fault, "Remove one of these needs.")

    def _expand(self, draft: Draft) -> Iterable[SortieSpec]:
        data = draft.data
        given = {**self._env, **data.get("env", {})}
        env = {name: str(masking.value_of(one)) for name, one in given.items()}
        secret_env = frozenset(name for name, one in given.items() if masking.is_marked(one))
        arguments, prompt, cwd = data.get("with", {}), data.get("prompt"), data.get("cwd")
        outputs, concurrency = data.get("outputs", []), data.get("concurrency")
        for key, combination in zip(draft.keys, draft.combinations, strict=True):
            self.faults.deadline.check()
            fill = partial(_fill, combination)
            yield SortieSpec(
                key=key,
                name=draft.name,
                agent_type=data.get("agent", ""),
                driver=draft.driver,
                groups=draft.groups,
                many=draft.many,
                matrix=combination,
                run=self._command(draft, "run", combination, fill),
                call=data.get("call"),
                prompt=None if prompt is None else templates.as_text(fill(prompt)),
                arguments=fill(arguments),
                verify=self._command(draft, "verify", combination, fill),
                env={name: templates.as_text(value) for name, value in fill(env).items()},
                secret_env=secret_env,
                cwd=None if cwd is None else templates.as_text(fill(cwd)),
                outputs=tuple(str(one) for one in fill(outputs)),
                allow_failure=data.get("allow_failure", False),
                always="if" in data,
                priority=data.get("priority", self.priority),
                timeout_s=draft.timeout_s,
                silence_s=draft.silence_s,
                alert_silence_s=draft.alert_silence_s,
                retry=draft.retry,
                concurrency=concurrency
                and Concurrency(key=templates.as_text(fill(concurrency["key"])), limit=concurrency.get("limit", 1)),
                run_at=draft.run_at,
            )

    def _command(
        self, draft: Draft, key: str, combination: Mapping[str, Json], fill: Callable[[Any], Any]
    ) -> str | tuple[str, ...] | None:
        value = draft.data.get(key)
        if value is None:
            return None
        if isinstance(value, list):
            return tuple(templates.as_text(item) for item in fill(value))
        return templates.shell_text(text=value, matrix=combination)

    def _check_outputs(self, drafts: Iterable[Draft]) -> None:
        for draft in drafts:
            for index, output in enumerate(draft.data.get("outputs", ())):
                for filled in _filled(draft, output, self.faults.deadline) if output is not None else ():
                    path = (*draft.path, "outputs", index)
                    fields.check_output(value=filled, path=path, faults=self.faults)

    def _check_keys(self, drafts: Iterable[Draft], broken: set[Path]) -> None:
        """Concurrency keys: how long they are, and that each has one limit."""
        first: dict[str, tuple[int, str]] = {}
        for draft in drafts:
            concurrency, path = draft.data.get("concurrency", {}), (*draft.path, "concurrency")
            if "key" not in concurrency:
                continue
            limit = concurrency.get("limit", 1)
            for key in _filled(draft, concurrency["key"], self.faults.deadline):
                if len(key) > matrix.MAX_KEY:
                    fault = f"The key {quoted(key)} has {len(key)} characters; {matrix.MAX_KEY} are allowed."
                    self.faults.add(path, fault, "Use shorter values.")
                if (*path, "limit") in broken:
                    continue
                other, name = first.setdefault(key, (limit, draft.name))
                if other != limit:
                    fault = f"The key {quoted(key)} has the limit {limit} here and {other} in {name}."
                    self.faults.add(path, fault, "Give one key one limit.")


def _filled(draft: Draft, text: str, deadline: Deadline) -> Iterable[str]:
    """A text for each combination; none where its templates cannot be filled in, which has had its fault."""
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
