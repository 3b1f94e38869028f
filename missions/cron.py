"""Cron expressions with a time zone: the times that they match. Pure functions, without Django or a database.

The arithmetic is cronsim's, which follows Debian's cron when the clocks change. An expression with a fixed hour and
minute runs exactly once on such a day: at the first moment after the gap if its time does not exist, and at the first
of the two if it exists twice. An expression whose minute or hour begins with `*` follows elapsed time instead.
"""

from __future__ import annotations

import difflib
import functools
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile

from cronsim import CronSim, CronSimError

from fleet import errors

MAX_LENGTH = 100  # of an expression
LOOK_BACK = timedelta(days=31)  # of times before this, only the newest one matters
ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
FIELDS = (
    "Write five fields: minute, hour, day of month, month, day of week. `30 2 * * 1-5` is 02:30 from Monday to Friday."
)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """The times that are due: the newest of them, oldest first, and how many came before those."""

    times: tuple[datetime, ...]
    earlier: int  # at least; times before LOOK_BACK are not counted


def check(*, cron: str, timezone: str) -> None:
    """Raise Invalid, which points at the field, if the expression or the zone is wrong or no date ever matches."""
    if timezone not in _zones():
        close = difflib.get_close_matches(timezone, _zones(), n=1)
        raise errors.Invalid(
            f"There is no time zone {timezone[:60]!r}.",
            hint=f"Did you mean {close[0]}?" if close else "Use a name such as Europe/Berlin or UTC.",
            pointer="/timezone",
        )
    try:
        first = next(times(cron=cron, timezone=timezone, after=_EPOCH), None)
    except (CronSimError, ValueError) as error:
        raise errors.Invalid(_problem(cron, str(error)), hint=FIELDS, pointer="/cron") from None
    if first is None:
        raise errors.Invalid(f"The cron expression {cron!r} matches no date in the next 50 years.", pointer="/cron")


def times(*, cron: str, timezone: str, after: datetime) -> Iterator[datetime]:
    """The times after `after`, in UTC, in ascending order. Ends if no date of the next 50 years matches.

    Raises CronSimError for an expression that `check` refuses.
    """
    expression = ALIASES.get(cron.strip().lower(), cron)
    if len(expression) > MAX_LENGTH or len(expression.split()) != 5:
        raise CronSimError("Wrong number of fields")
    last = after
    for local in CronSim(expression, after.astimezone(zoneinfo.ZoneInfo(timezone))):
        # Where the clocks change, cronsim may repeat a time, or start with one that has passed.
        if (at := local.astimezone(UTC)) > last:
            last = at
            yield at


def next_time(*, cron: str, timezone: str, after: datetime) -> datetime | None:
    """The first time after `after`; None if there is none within 50 years."""
    return next(times(cron=cron, timezone=timezone, after=after), None)


def due(*, cron: str, timezone: str, first: datetime, now: datetime, limit: int) -> Due:
    """The times that are due by `now`: `first`, which is due, and those after it; of all these the newest `limit`."""
    due_times: list[datetime] = []
    if now - first > LOOK_BACK:
        due_times = [*takewhile(lambda at: at <= now, times(cron=cron, timezone=timezone, after=now - LOOK_BACK))]
    if not due_times:
        due_times = [first, *takewhile(lambda at: at <= now, times(cron=cron, timezone=timezone, after=first))]
    return Due(times=tuple(due_times[-limit:]), earlier=max(0, len(due_times) - limit))


def local(at: datetime, timezone: str) -> datetime:
    """The local time in a time zone."""
    return at.astimezone(zoneinfo.ZoneInfo(timezone))


def explanation(cron: str) -> str:
    """The expression in words: `At 02:30 on Monday through Friday`."""
    return CronSim(ALIASES.get(cron.strip().lower(), cron), _EPOCH).explain()


@functools.cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def _problem(cron: str, detail: str) -> str:
    fields = cron.split()
    if len(fields) == 5 and detail == "Bad day-of-month":
        try:
            CronSim(" ".join([*fields[:3], "*", fields[4]]), _EPOCH)
        except (CronSimError, ValueError):
            pass
        else:
            return f"The cron expression {cron!r} never matches: none of its months has that day."
    return f"{cron[:MAX_LENGTH]!r} is not a cron expression: {detail[:1].lower()}{detail[1:]}."
