"""Reads and checks plans (docs/plan.md). Pure: it uses neither Django nor settings; limits are passed in.

`document` turns text into data that satisfies the schema, and `graph` turns that data into sorties. `reader_process`
does both in a separate process, for the web process. Other packages import the names below, and the modules
`durations`, `globs`, `pattern_tree`, `reader_process` and `templates`.
"""

from missions.plan.graph.additions import load_added
from missions.plan.graph.advice import warnings
from missions.plan.graph.fields import PATTERN_FIX, pattern_problem
from missions.plan.graph.prediction import predict
from missions.plan.inputs import bind
from missions.plan.loading import fragment, fragment_names, from_data, load, with_line
from missions.plan.masking import masked, masked_spec
from missions.plan.problems import Advice, PlanError, PlanProblem
from missions.plan.specs import Concurrency, InputSpec, Plan, PlanContext, Retry, SortieSpec, TypeFacts, WorkspaceSpec
from missions.plan.values import Json

__all__ = [
    "PATTERN_FIX",
    "Advice",
    "Concurrency",
    "InputSpec",
    "Json",
    "Plan",
    "PlanContext",
    "PlanError",
    "PlanProblem",
    "Retry",
    "SortieSpec",
    "TypeFacts",
    "WorkspaceSpec",
    "bind",
    "fragment",
    "fragment_names",
    "from_data",
    "load",
    "load_added",
    "masked",
    "masked_spec",
    "pattern_problem",
    "predict",
    "warnings",
    "with_line",
]
