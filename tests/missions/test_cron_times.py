"""Cron expressions match the times that people expect, also where the clocks change, and wrong ones are refused."""

from __future__ import annotations

import time
import zoneinfo
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet import errors
from missions import cron

NEW_YORK, LORD_HOWE = "America/New_York", "Australia/Lord_Howe"
ZONES = [NEW_YORK, LORD_HOWE, "UTC", "Europe/Berlin", "Africa/Casablanca", "Asia/Kathmandu", "America/St_Johns",
         "Pacific/Apia", "Antarctica/Troll", "Africa/Cairo", "America/Havana"]  # fmt: skip


def local(expression: str, timezone: str, day: str, *, days: int = 3) -> list[str]:
    """The times of an expression from the start of a day, as local times with their UTC offsets."""
    start = datetime.fromisoformat(day).replace(tzinfo=zoneinfo.ZoneInfo(timezone))
    end = (start + timedelta(days=days)).astimezone(UTC)
    found: list[str] = []
    for at in cron.times(cron=expression, timezone=timezone, after=start.astimezone(UTC) - timedelta(seconds=1)):
        if at >= end:
            return found
        found.append(f"{cron.local(at, timezone):%d %H:%M %z}")
    return found


def test_in_new_york_a_time_in_the_gap_runs_once_right_after_it() -> None:
    assert local("30 2 * * *", NEW_YORK, "2026-03-07") == ["07 02:30 -0500", "08 03:00 -0400", "09 02:30 -0400"]
    assert local("30 1 * * *", NEW_YORK, "2026-03-07") == ["07 01:30 -0500", "08 01:30 -0500", "09 01:30 -0400"]


def test_in_new_york_a_time_that_exists_twice_runs_once() -> None:
    assert local("30 1 * * *", NEW_YORK, "2026-10-31") == ["31 01:30 -0400", "01 01:30 -0400", "02 01:30 -0500"]
    assert local("30 2 * * *", NEW_YORK, "2026-10-31") == ["31 02:30 -0400", "01 02:30 -0500", "02 02:30 -0500"]


def test_a_change_of_half_an_hour_is_no_exception() -> None:
    assert local("15 2 * * *", LORD_HOWE, "2026-10-03") == ["03 02:15 +1030", "04 02:30 +1100", "05 02:15 +1100"]
    assert local("45 1 * * *", LORD_HOWE, "2026-04-04") == ["04 01:45 +1100", "05 01:45 +1100", "06 01:45 +1030"]


def test_an_expression_for_every_hour_follows_elapsed_time() -> None:
    spring, autumn = (local("*/30 * * * *", NEW_YORK, day, days=1) for day in ("2026-03-08", "2026-11-01"))
    assert (len(spring), len(autumn)) == (46, 50)  # a day of 23 hours, and one of 25
    assert [at for at in autumn if at.startswith("01 01:30")] == ["01 01:30 -0400", "01 01:30 -0500"]


def test_within_the_repeated_hour_the_next_run_is_on_the_next_day() -> None:
    second_0110 = datetime(2026, 11, 1, 6, 10, tzinfo=UTC)
    assert cron.next_time(cron="30 1 * * *", timezone=NEW_YORK, after=second_0110) == datetime(
        2026, 11, 2, 6, 30, tzinfo=UTC
    )


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("0 0 30 2 *", "never matches: none of its months has that day"),
        ("0 0 31 4,6,9,11 *", "never matches: none of its months has that day"),
        ("0 0 32 1 *", "is not a cron expression: bad day-of-month"),
        ("60 * * * *", "is not a cron expression: bad minute"),
        ("* * * *", "is not a cron expression: wrong number of fields"),
        ("* * * * * *", "is not a cron expression: wrong number of fields"),
        ("", "is not a cron expression"),
        ("٣ * * * *", "bad minute"),
        ("1" * 5_000 + " * * * *", "is not a cron expression"),
        ("* " * 5_000, "is not a cron expression"),
        ("@reboot", "is not a cron expression"),
    ],
)  # fmt: skip
def test_an_expression_that_is_wrong_or_never_matches_is_refused(expression: str, words: str) -> None:
    with pytest.raises(errors.Invalid, match=words) as excinfo:
        cron.check(cron=expression, timezone="UTC")
    assert excinfo.value.pointer == "/cron"
    assert len(str(excinfo.value)) < 400


@pytest.mark.parametrize(
    "zone", ["Mars/Olympus", "", "America", "../../etc/passwd", "/etc/localtime", "New York", "x\0y"]
)
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(errors.Invalid, match="There is no time zone") as excinfo:
        cron.check(cron="@daily", timezone=zone)
    assert excinfo.value.pointer == "/timezone"


def test_a_misspelt_zone_is_corrected() -> None:
    with pytest.raises(errors.Invalid, match="Did you mean America/New_York"):
        cron.check(cron="@daily", timezone="America/NewYork")


def test_an_alias_stands_for_its_expression() -> None:
    after = datetime(2026, 5, 5, 5, 5, tzinfo=UTC)
    assert cron.next_time(cron="@daily", timezone="UTC", after=after) == datetime(2026, 5, 6, tzinfo=UTC)


def test_the_rarest_expression_is_found_in_less_than_a_second() -> None:
    start = time.process_time()
    cron.check(cron="0 0 29 2 MON#5", timezone=NEW_YORK)
    assert time.process_time() - start < 1


def test_due_ticks_are_bounded_and_found_quickly_after_ten_years() -> None:
    now = datetime(2026, 6, 1, tzinfo=UTC)
    start = time.process_time()
    due = cron.due(cron="* * * * *", timezone="UTC", first=datetime(2016, 6, 1, tzinfo=UTC), now=now, limit=2)
    assert time.process_time() - start < 5
    assert due.times == (now - timedelta(minutes=1), now)
    assert due.earlier == 31 * 24 * 60 - 2


def test_a_rare_time_that_was_due_long_ago_is_still_due() -> None:
    first = datetime(2026, 1, 1, tzinfo=UTC)
    due = cron.due(cron="@yearly", timezone="UTC", first=first, now=datetime(2026, 11, 1, tzinfo=UTC), limit=3)
    assert (due.times, due.earlier) == ((first,), 0)


field = st.sampled_from
expressions = st.tuples(
    field(["0", "30", "*/15", "7,52", "*"]), field(["*", "0", "1", "2", "3", "0-4", "*/3", "1,2"]),
    field(["*", "1", "8", "28-31"]), field(["*", "3,4,10,11"]), field(["*", "SUN", "1-5"]),
).map(" ".join)  # fmt: skip
moments = st.integers(0, 3 * 366 * 24 * 60).map(
    lambda minutes: datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
)


@given(expression=expressions, zone=st.sampled_from(ZONES), after=moments)
def test_times_rise_and_do_not_depend_on_where_the_search_starts(expression: str, zone: str, after: datetime) -> None:
    found = list(islice(cron.times(cron=expression, timezone=zone, after=after), 12))
    assert found == sorted(set(found))
    assert not found or found[0] > after
    for earlier, later in pairwise(found):
        assert cron.next_time(cron=expression, timezone=zone, after=earlier) == later
        between = earlier + (later - earlier) / 3
        assert cron.next_time(cron=expression, timezone=zone, after=between) == later
