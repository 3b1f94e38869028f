"""The resource usage of process trees is sampled, kept in detail for hours, thinned for days, and then deleted."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from agents import usage
from agents.models import Agent, AgentType, Sample
from agents.node import sampling
from fleet import ids
from fleet.host import processes
from tests.support.waiting import until

BUSY = "import time\nend = time.process_time() + {}\nwhile time.process_time() < end: pass\n"
FAMILY = (
    "import subprocess, sys, time\n"
    "memory = b'x' * 60_000_000\n"
    "subprocess.run([sys.executable, '-c', {busy!r}])\n"  # it has ended, but still counts
    "child = subprocess.Popen([sys.executable, '-c', 'memory = b\"x\" * 60_000_000; import time; time.sleep(600)'],"
    " start_new_session=True)\n"
    "print('ready', flush=True)\n"
    "child.wait()\n"
)
NOW = datetime(2026, 3, 1, 12, 3, tzinfo=UTC)


@pytest.fixture
def family() -> Iterator[subprocess.Popen[str]]:
    """A process with a child in another session, holding 60 MB each; another child has used 0.3 s and ended."""
    code = FAMILY.format(busy=BUSY.format(0.3))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        for pid in (*usage.descendants(process.pid), process.pid):
            os.kill(pid, 9)


def test_a_process_is_measured_with_its_descendants(family: subprocess.Popen[str]) -> None:
    until(lambda: usage.measure(family.pid).memory_bytes > 120_000_000)
    use = usage.measure(family.pid)
    assert use.memory_bytes < 200_000_000
    assert use.processes == 2
    assert use.cpu_s >= 0.3
    assert processes.resident_bytes([family.pid, *usage.descendants(family.pid)]) >= use.memory_bytes
    assert {family.pid, *usage.descendants(family.pid)} <= set(usage.descendants(os.getpid()))
    assert usage.measure(2**22 - 1) == usage.Measurement(0.0, 0, 0)


def test_a_sample_measures_the_time_since_the_last_one(family: subprocess.Popen[str]) -> None:
    sampler, agent = sampling.Sampler(), ids.new()
    (first,) = sampler.sample({agent: family.pid, ids.new(): 2**22 - 1})
    assert (first.agent_id, first.processes) == (agent, 2)
    assert 0 < first.cpu < 3, "measured since the start of the process"
    time.sleep(0.2)
    (second,) = sampler.sample({agent: family.pid})
    assert second.cpu < 0.5, "the process has been asleep since the last sample"


def new_agent() -> Agent:
    return Agent.objects.create(type=AgentType.objects.get(name="backend"))


def take(agent: Agent, *, hours_ago: float, cpu: float = 1.0, memory: int = 100, step_s: int = 10) -> None:
    Sample.objects.create(
        agent=agent, at=NOW - timedelta(hours=hours_ago), step_s=step_s, cpu=cpu, memory_bytes=memory, processes=2
    )


def thin_all() -> int:
    calls = 0
    while sampling.thin(now=NOW):
        calls += 1
    return calls


@pytest.mark.django_db
def test_fine_samples_become_means_of_ten_minutes() -> None:
    agent, other = new_agent(), new_agent()
    for minute in range(20):
        take(agent, hours_ago=8 - minute / 60, cpu=minute, memory=minute * 1_000_000_000)
    take(agent, hours_ago=8, cpu=9.0, step_s=30)
    take(other, hours_ago=8, cpu=0.5)
    take(agent, hours_ago=1)
    assert sampling.due(now=NOW) == 22
    thin_all()
    assert sampling.due(now=NOW) == 0
    rows = list(Sample.objects.filter(agent=agent, step_s=600).values_list("at", "cpu", "memory_bytes"))
    assert [at.strftime("%H:%M") for at, *_ in rows] == ["04:00", "04:10", "04:20"]
    assert [cpu for _, cpu, _ in rows] == [pytest.approx((sum(range(7)) + 27) / 10), 11.5, 18.0]
    assert rows[1][2] == 11_500_000_000
    assert Sample.objects.get(agent=other).cpu == 0.5
    assert Sample.objects.filter(agent=agent, step_s=10).count() == 1


@pytest.mark.django_db
def test_ten_minutes_that_overlap_the_fine_history_are_not_thinned() -> None:
    agent = new_agent()
    for minute in range(30):
        take(agent, hours_ago=6 + (15 - minute) / 60)
    thin_all()
    fine = Sample.objects.filter(step_s=10).values_list("at", flat=True)
    assert min(fine) == NOW.replace(hour=6, minute=0)


@pytest.mark.django_db
def test_old_coarse_samples_are_deleted() -> None:
    agent = new_agent()
    take(agent, hours_ago=15 * 24, step_s=600)
    take(agent, hours_ago=13 * 24, step_s=600)
    take(agent, hours_ago=20 * 24)  # its node was down when it was due
    thin_all()
    assert [s.at for s in Sample.objects.all()] == [NOW - timedelta(days=13)]


@pytest.mark.django_db
def test_thinning_takes_ten_minutes_at_a_time_whatever_is_due() -> None:
    agent = new_agent()
    for hours in range(7, 27):
        take(agent, hours_ago=hours)
    with CaptureQueriesContext(connection) as queries:
        assert sampling.thin(now=NOW) == 1
    assert len([q for q in queries if "agents_sample" in q["sql"]]) == 2
    assert thin_all() == 19
