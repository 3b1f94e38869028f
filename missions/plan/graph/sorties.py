"""Turns the sorties of a plan, which satisfy the schema, into specs, and finds the problems of the whole graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from missions.plan.graph import expansion, fields, matrix, ordering
from missions.plan.graph.drafts import Draft
from missions.plan.graph.needs import Resolver
from missions.plan.problems import Path, Problems, quoted
from missions.plan.specs import PlanContext, Retry, SortieSpec
from missions.plan.values import Json

DURATIONS = ("timeout", "silence", "alert_silence")  # keys that a sortie inherits from `defaults`


class Graph:
    """The sorties of a plan, or sorties added to a mission.

    `existing`: the keys that the mission already has. `workspace`: whether the mission has one.
    """

    def __init__(
        self,
        *,
        defaults: Mapping[str, Any],
        inputs: Collection[str],
        context: PlanContext,
        limit: int,
        problems: Problems,
        priority: int = 0,
        existing: Collection[str] = (),
        workspace: bool = False,
    ) -> None:
        self.workspace = workspace
        self.defaults, self.inputs, self.context, self.problems = defaults, inputs, context, problems
        self.limit, self.priority, self.existing = limit, priority, existing
        self._inherited = {
            key: defaults[key]
            for key in ("agent", "timeout", "silence", "alert_silence", "priority", "cwd")
            if key in defaults
        }
        self._default_env = defaults.get("env", {})
        self._default_retry_data = defaults.get("retry", {})
        self._default_retry = Retry()
        self._default_durations: dict[str, float | None] = {}
        self._default_agent_is_broken = False

    def specs(
        self, *, data: Mapping[str, Any], names: Collection[str], broken: set[Path], is_read: Callable[[Path], bool]
    ) -> tuple[SortieSpec, ...]:
        """The specs of the sorties in `data`, each after those it needs; () if there are problems, which are added.

        `names`: all names in the plan, including those of invalid sorties, which are not in `data`. `broken`: the paths
        that were removed from `data`. `is_read`: whether the value at a path is as written in the plan. Everything that
        can be checked is checked, whatever other problems there are.
        """
        self._check_defaults(broken)
        names = dict.fromkeys(names)  # ordered, with fast lookups
        drafts = self._drafts(data, broken, is_read)
        if drafts is None:
            return ()
        for draft in drafts:
            self._make_keys(draft)
        resolver = Resolver(drafts=drafts, names=names, existing=self.existing, problems=self.problems)
        for draft in drafts:
            resolver.resolve(draft)
        resolver.check_cycles()
        if not expansion.check_size(
            drafts=drafts, default_env=self._default_env, context=self.context, problems=self.problems
        ):
            return ()
        expansion.check_outputs(drafts=drafts, problems=self.problems)
        expansion.check_patterns(drafts=drafts, problems=self.problems)
        expansion.check_concurrency_keys(drafts=drafts, broken=broken, problems=self.problems)
        if self.problems:
            return ()
        specs = [
            spec
            for draft in drafts
            for spec in expansion.expand(
                draft=draft,
                default_env=self._default_env,
                priority=self.priority,
                deadline=self.problems.deadline,
            )
        ]
        number = {spec.key: index for index, spec in enumerate(specs)}
        needs = [[number[key] for key in spec.needs if key in number] for spec in specs]
        return tuple(specs[index] for index in ordering.topological_order(needs))

    def _check_defaults(self, broken: set[Path]) -> None:
        path = ("defaults",)
        if "agent" in self.defaults:
            fields.check_agent(
                name=self.defaults["agent"], path=(*path, "agent"), context=self.context, problems=self.problems
            )
        self._default_agent_is_broken = (*path, "agent") in broken
        self._default_durations = {
            key: fields.duration(data=self.defaults, key=key, path=path, problems=self.problems) for key in DURATIONS
        }
        self._default_retry = fields.retry(data=self._default_retry_data, path=(*path, "retry"), problems=self.problems)
        for key, allowed in fields.DEFAULTS_ALLOWED.items():
            if key in self.defaults:
                fields.check_templates(
                    value=self.defaults[key],
                    path=(*path, key),
                    allowed=allowed,
                    needs=(),
                    inputs=self.inputs,
                    axes={},
                    problems=self.problems,
                )

    def _drafts(
        self, data: Mapping[str, Any], broken: set[Path], is_read: Callable[[Path], bool]
    ) -> list[Draft] | None:
        """A draft of each sortie; None if their matrices give too many sorties."""
        removed: dict[Path, set[str]] = {}
        for path in broken:
            if len(path) > 2:
                removed.setdefault(path[:2], set()).add(str(path[2]))
        drafts: list[Draft] = []
        total = 0
        for name, item in data.items():
            if not isinstance(item, dict):
                continue
            drafts.append(self._draft(name, item, removed.get(("sorties", name), set()), is_read))
            total += len(drafts[-1].combinations)
            if total > self.limit:  # checked within the loop: a few bytes of a plan make thousands of combinations
                message = f"With all matrices expanded, there are {total:,} or more sorties; at most {self.limit:,} are allowed."
                self.problems.add(("sorties",), message, "Split it into several plans.")
                return None
        return drafts

    def _draft(
        self, name: str, data: Mapping[str, Any], removed: Collection[str], is_read: Callable[[Path], bool]
    ) -> Draft:
        """Check the fields of one sortie. `removed`: its keys of which an invalid value, or part of it, was removed."""
        path = ("sorties", name)
        problems = self.problems
        axes = data.get("matrix", {})
        complete = "matrix" not in removed
        combinations = (
            matrix.combinations(
                matrix=axes, path=(*path, "matrix"), limit=self.limit, problems=problems, complete=complete
            )
            if axes
            else [{}]
        )
        merged = {**self._inherited, **data}
        if "agent" in data:
            fields.check_agent(name=data["agent"], path=(*path, "agent"), context=self.context, problems=problems)
        elif "agent" not in merged and "agent" not in removed and not self._default_agent_is_broken and is_read(path):
            problems.add(path, "It has no agent type.", f"Add agent: {fields.types(self.context)}.")
        driver = fields.check_work(
            sortie=merged,
            path=path,
            removed={*removed, *(() if is_read(path) else fields.WORK)},
            context=self.context,
            problems=problems,
        )
        fields.check_workspace(sortie=merged, path=path, workspace=self.workspace, problems=problems)
        run_at = None
        if "run_at" in data:
            run_at = fields.run_at(value=data["run_at"], path=(*path, "run_at"), problems=problems)
        self._check_templates(path, data, matrix.values(matrix=axes, combinations=combinations), removed)
        durations = self._default_durations | {
            key: fields.duration(data=data, key=key, path=path, problems=problems) for key in DURATIONS if key in data
        }
        retry = self._default_retry
        if "retry" in data:
            retry = fields.retry(
                data={**self._default_retry_data, **data["retry"]}, path=(*path, "retry"), problems=problems
            )
        return Draft(
            name=name,
            path=path,
            data=merged,
            driver=driver,
            combinations=combinations,
            timeout_s=durations["timeout"],
            silence_s=durations["silence"],
            alert_silence_s=durations["alert_silence"],
            retry=retry,
            run_at=run_at,
            matrix_complete=complete,
        )

    def _check_templates(
        self, path: Path, data: Mapping[str, Any], axes: Mapping[str, Sequence[Json]], removed: Collection[str]
    ) -> None:
        needs = None if "needs" in removed else {need: None for need in data.get("needs", ()) if need is not None}
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
                all_axes="matrix" not in removed,
                problems=self.problems,
                shell=isinstance(value, str) and key in ("run", "verify"),
            )

    def _make_keys(self, draft: Draft) -> None:
        keys = [matrix.key(name=draft.name, combination=combination) for combination in draft.combinations]
        for key in keys:
            if len(key) > matrix.MAX_KEY:
                message = f"The key {quoted(key)} has {len(key)} characters; at most {matrix.MAX_KEY} are allowed."
                self.problems.add((*draft.path, "matrix"), message, "Use shorter values.")
                break
        draft.keys, draft.key_set = tuple(keys), frozenset(keys)
        if len(draft.key_set) < len(keys):
            repeated = next(key for key, count in Counter(keys).items() if count > 1)
            message = f"The matrix makes {quoted(repeated)} twice."
            self.problems.add((*draft.path, "matrix"), message, "Remove one of the combinations.")
        duplicate = (
            draft.name if draft.name in self.existing else next((key for key in keys if key in self.existing), None)
        )
        if duplicate is not None:
            self.problems.add(
                draft.path, f"The mission already has a sortie {quoted(duplicate)}.", "Choose another name."
            )
