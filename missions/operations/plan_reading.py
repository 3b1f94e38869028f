"""Read the plans that users send to the site: in a separate process, with the time charged to the user's budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from fleet.limits import costs
from missions import plan
from missions.plan import Plan, PlanError
from missions.plan.reader_process import PlanReader, Summary
from missions.queries import plan_context

T = TypeVar("T")
SHORT = 20_000  # characters; these texts take less time than a request to the other process
reader = PlanReader()  # one per process of the site; it starts its process when it is first needed


def load(text: str) -> Plan:
    """The plan in a text. Errors as for `PlanReader.load`."""
    return _charge(lambda: reader.load(text=text, context=plan_context.current()))


def summary(text: str) -> Summary:
    """The summary of the plan in a text. Errors as for `PlanReader.load`."""
    return _charge(lambda: reader.summary(text=text, context=plan_context.current()))


def masked(text: str) -> str:
    """A plan's text with its secrets hidden. Not charged: whoever sees it need not have written it.

    Unavailable if the reader is busy with other plans for too long.
    """
    if len(text) <= SHORT:
        return plan.masked(text)
    return reader.masked(text=text, context=plan_context.without_database())


def _charge(read: Callable[[], tuple[T, float]]) -> T:
    """The result of a read, charged with the CPU time that it took, also if the plan is not valid."""
    try:
        result, cost_s = read()
    except PlanError as error:
        costs.add(error.cost_s)
        raise
    costs.add(cost_s)
    return result
