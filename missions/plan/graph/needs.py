"""Resolves the needs of all sorties to keys, and finds cycles."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from missions.plan.graph import ordering
from missions.plan.graph.drafts import Draft
from missions.plan.problems import Path, Problems, quoted


class Resolver:
    """Resolves needs to sorties of this plan, and to sorties that the mission already has.

    `names`: all names in the plan, including those of invalid sorties. `existing`: the keys of the mission's sorties.
    """

    def __init__(
        self, *, drafts: Sequence[Draft], names: Collection[str], existing: Collection[str], problems: Problems
    ) -> None:
        self._drafts = {draft.name: draft for draft in drafts}
        self._names, self._existing, self._problems = names, existing, problems
        self._existing_groups: dict[str, list[str]] | None = None

    def resolve(self, draft: Draft) -> None:
        """Set `groups`, `matrix_needs` and `needed_names` of a draft."""
        matrix_needs: set[str] = set()
        needed: list[str] = []
        for index, need in enumerate(draft.data.get("needs", ())):
            self._problems.deadline.check()
            if need is None:
                continue  # it was invalid, and its problem is already recorded
            path = (*draft.path, "needs", index)
            name = need.partition("[")[0]
            if name == draft.name:
                self._problems.add(path, "It needs itself.", "Remove this need.")
            elif name in self._drafts:
                needed.append(name)
                other = self._drafts[name]
                if need == name:
                    draft.groups[need] = other.keys
                    if "matrix" in other.data:
                        matrix_needs.add(need)
                elif need in other.key_set:
                    draft.groups[need] = (need,)
                elif other.matrix_complete:
                    fix = self._problems.suggestion(need, other.keys) or f"Name one of its sorties, or all with {name}."
                    self._problems.add(path, f"{quoted(need)} is not in the matrix of {quoted(name)}.", fix)
            elif name in self._names:
                pass  # that sortie is invalid, and its problem is already recorded
            elif need in self._existing:
                draft.groups[need] = (need,)
            elif group := self._existing_group(need):
                draft.groups[need] = group
                matrix_needs.add(need)
            else:
                self._add_unknown_need(draft, need, path)
        draft.matrix_needs = frozenset(matrix_needs)
        draft.needed_names = tuple(needed)
        self._check_variables(draft)

    def check_cycles(self) -> None:
        for cycle in ordering.cycles({name: draft.needed_names for name, draft in self._drafts.items()}):
            first = self._drafts[cycle[0]]
            needs = first.data["needs"]
            index = next(i for i, need in enumerate(needs) if need and need.partition("[")[0] == cycle[1])
            names = (*cycle[:10], f"… ({len(cycle) - 11:,} more)", cycle[-1]) if len(cycle) > 12 else cycle
            message = f"The needs form a cycle: {' → '.join(names)}."
            self._problems.add((*first.path, "needs", index), message, "Remove one of these needs.")

    def _existing_group(self, name: str) -> tuple[str, ...]:
        """The keys `name[…]` that the mission already has."""
        if self._existing_groups is None:
            self._existing_groups = {}
            for key in self._existing:
                if "[" in key:
                    self._existing_groups.setdefault(key.partition("[")[0], []).append(key)
        return tuple(self._existing_groups.get(name, ()))

    def _add_unknown_need(self, draft: Draft, need: str, path: Path) -> None:
        owner = "mission" if self._existing else "plan"
        fix = self._problems.did_you_mean(need, self._names) or self._problems.did_you_mean(need, self._existing)
        if not fix and len(self._names) + len(self._existing) <= 30:
            fix = self._problems.suggestion(need, {*self._names, *self._existing} - {draft.name})
        fix = fix or f"Name a sortie of the {owner}, or remove this need."
        self._problems.add(path, f"{quoted(need)} is not a sortie of this {owner}.", fix)

    def _check_variables(self, draft: Draft) -> None:
        """Check that no two needs set the same FLEET_NEED_… variable."""
        if len(draft.groups) < 2:
            return
        variables: dict[str, str] = {}
        for need in draft.groups:
            variable = "".join(c if c.isascii() and c.isalnum() else "_" for c in need.upper())
            if (other := variables.setdefault(variable, need)) != need:
                message = f"{quoted(other)} and {quoted(need)} would both set the variable FLEET_NEED_{variable}."
                self._problems.add((*draft.path, "needs"), message, "Rename one of the two.")
