"""The context for plans in tests, and helpers to load them."""

from __future__ import annotations

from missions import plan

CONTEXT = plan.PlanContext(
    types={
        "frontend": plan.TypeFacts(takes_prompt=False),
        "backend": plan.TypeFacts(takes_prompt=True),
        "testing": plan.TypeFacts(takes_prompt=False),
        "documentation": plan.TypeFacts(takes_prompt=False),
        "security": plan.TypeFacts(takes_prompt=False),
        "performance": plan.TypeFacts(takes_prompt=False),
    },
    callables={"examples.repo_audit:score"},
    drivers={"command", "python", "scripted"},
    max_sorties=10_000,
    max_bytes=1_000_000,
    max_added=100,
)


def load(text: str | bytes) -> plan.Plan:
    return plan.load(text=text, context=CONTEXT)


def sorties(text: str) -> dict[str, plan.SortieSpec]:
    """The specs of the sorties in `text`, one per line, by key."""
    return {spec.key: spec for spec in load(whole(text)).sorties}


def whole(text: str) -> str:
    """A plan whose first sortie is on line 3."""
    return "mission: M\nsorties:\n" + "".join(f"  {line}\n" for line in text.strip().splitlines())


def problems(text: str | bytes) -> tuple[plan.PlanProblem, ...]:
    """The problems of a plan; none for a valid one."""
    try:
        load(text)
    except plan.PlanError as error:
        return error.problems
    return ()
