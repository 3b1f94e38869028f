"""Plans that come to the site: read in a process beside it, and counted as the user's costs."""

from __future__ import annotations

from fleet.limits import costs
from missions.plan import Plan, PlanError
from missions.plan.reader_process import Reader, Summary
from missions.queries import surroundings

reader = Reader()  # one for each process of the site, which starts it when it needs it


def load(text: str) -> Plan:
    """As `missions.plan.load`."""
    try:
        found, cost_s = reader.load(text=text, surroundings=surroundings.current())
    except PlanError as wrong:
        costs.add(wrong.cost_s)
        raise
    costs.add(cost_s)
    return found


def summary(text: str) -> Summary:
    """What a plan is, without its sorties."""
    try:
        found, cost_s = reader.summary(text=text, surroundings=surroundings.current())
    except PlanError as wrong:
        costs.add(wrong.cost_s)
        raise
    costs.add(cost_s)
    return found
