"""The plan format: read, judged and worked out. Pure: no Django, no settings; limits are passed in (docs/plan.md).

`missions.plan.reader` does it in a process of its own, for the site.
"""

from missions.plan.faults import Advice, Fault, PlanError
from missions.plan.graph.additions import added
from missions.plan.graph.advice import warnings
from missions.plan.inputs import bind
from missions.plan.loading import from_data, load
from missions.plan.masking import masked, masked_spec
from missions.plan.specs import Concurrency, InputSpec, Plan, Retry, SortieSpec, Surroundings, TypeFacts
from missions.plan.values import Json

__all__ = [
    "Advice",
    "Concurrency",
    "Fault",
    "InputSpec",
    "Json",
    "Plan",
    "PlanError",
    "Retry",
    "SortieSpec",
    "Surroundings",
    "TypeFacts",
    "added",
    "bind",
    "from_data",
    "load",
    "masked",
    "masked_spec",
    "warnings",
]
