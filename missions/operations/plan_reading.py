"""Read the plans that users send to the site: in a separate process, with the time charged to the user's budget."""

from __future__ import annotations

from fleet.limits import costs
from missions.plan import Plan, PlanError
from missions.plan.reader_process import Reader, Summary
from missions.queries import plan_context

reader = Reader()  # one per process of the site; it starts its process when it is first needed


def load(text: str) -> Plan:
    """Like `missions.plan.load`."""
    try:
        plan, cost_s = reader.load(text=text, context=plan_context.current())
    except PlanError as error:
        costs.add(error.cost_s)
        raise
    costs.add(cost_s)
    return plan


def summary(text: str) -> Summary:
    """The plan without its sorties."""
    try:
        result, cost_s = reader.summary(text=text, context=plan_context.current())
    except PlanError as error:
        costs.add(error.cost_s)
        raise
    costs.add(cost_s)
    return result
