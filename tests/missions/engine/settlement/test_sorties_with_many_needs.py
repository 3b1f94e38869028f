"""With thousands of needs, the variables and files of a sortie and the memory of its agent stay bounded."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from django.test import override_settings

from missions.models import Attempt, Sortie
from tests.support import fleet

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

MAP = """
import json, os, sys
group = int(sys.argv[1])
names = {1: "one1-{}", 2: "scan2[" + chr(0x1F600) * 90 + "{}]"}
add = [
    {"name": names.get(group, f"scan{group}[part=" + "{}]").format(part), "agent": "backend", "driver": "scripted",
     "with": {"result": "x" * 1_000}, "before": ["report"]}
    for part in range(1_000)
]
json.dump(add, open(os.environ["FLEET_SORTIES"], "w"))
"""
REPORT = """
import json, os, resource
def read(variable):
    if variable in os.environ:
        return json.loads(os.environ[variable])
    return json.load(open(os.environ[variable + "_FILE"]))
index = json.load(open(os.environ["FLEET_NEEDS_INDEX"]))
folder = os.environ["FLEET_NEEDS"]
needs = {name: json.load(open(os.path.join(folder, file))) for name, file in index.items()}
json.dump({
    "states": len(read("FLEET_NEED_STATES")),
    "needs": len(needs),
    "parts": sum(len(value) for value in needs.values() if isinstance(value, list)),
    "bytes": sum(len(name) + len(value) + 2 for name, value in os.environb.items()),
    "scan3": read("FLEET_NEED_SCAN3") == needs["scan3"],
}, open(os.environ["FLEET_RESULT"], "w"))
"""


@contextmanager
def memory_measured() -> Iterator[list[int]]:
    """Measure how many bytes of memory this process needs at most, beyond what it had before."""
    process, done, most = psutil.Process(), threading.Event(), [0]
    before = process.memory_info().rss

    def watch() -> None:
        while not done.wait(0.05):
            most[0] = max(most[0], process.memory_info().rss - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()


@pytest.mark.drill
@pytest.mark.timeout(1_200)
def test_a_report_can_need_fifteen_thousand_added_sorties() -> None:
    sorties = {f"map{group}": {"run": ["python3", "-c", MAP, str(group)]} for group in range(1, 16)}
    mission = fleet.launch({**sorties, "report": {"needs": list(sorties), "run": ["python3", "-c", REPORT]}})
    engine = fleet.engine(slots=2)
    try:
        with memory_measured() as most:
            assert fleet.run_to_end(engine, mission, within_s=600) == "succeeded"
    finally:
        engine.stop(within_s=5)
    report = Attempt.objects.get(sortie__mission=mission, sortie__key="report").result
    assert isinstance(report, dict)
    size = report.pop("bytes")
    assert Sortie.objects.filter(mission=mission, state="succeeded").count() == 15_016
    assert report == {
        "states": 15_015,
        "needs": 15 + 14 + 1_000,
        "parts": 14_000,
        "scan3": True,
    }
    assert size < 600_000
    assert most[0] < 500_000_000


def test_a_need_may_have_a_long_name_with_any_characters() -> None:
    long = f"scan2[{'😀' * 120}]"
    add = [
        {"name": long, "agent": "backend", "driver": "scripted", "with": {"result": {"n": 1}}},
        {
            "name": "after", "agent": "backend", "needs": [long],
            "run": ["python3", "-c", ("import json, os; i = json.load(open(os.environ['FLEET_NEEDS_INDEX']));"
                    "print({k: open(os.environ['FLEET_NEEDS'] + '/' + v).read() for k, v in i.items()})")],
        },
    ]  # fmt: skip
    mission = fleet.launch({"map": {"with": {"add": add}}})
    engine = fleet.engine()
    try:
        assert fleet.run_to_end(engine, mission) == "succeeded"
    finally:
        engine.stop(within_s=5)
    assert Attempt.objects.get(sortie__key="after").result == {"output": f"{ {long: json.dumps({'n': 1})} }\n"}


@override_settings(FLEET_NEEDS_BYTES=2_000)
def test_results_that_are_too_large_together_fail_the_sortie_at_once() -> None:
    mission = fleet.launch(
        {
            "a": {"with": {"result": "x" * 1_500}},
            "b": {"with": {"result": "x" * 1_500}},
            "both": {"needs": ["a", "b"], "run": "true", "retry": {"max_attempts": 5}},
        }
    )
    engine = fleet.engine()
    try:
        assert fleet.run_to_end(engine, mission) == "failed"
    finally:
        engine.stop(within_s=5)
    attempt = Attempt.objects.get(sortie__key="both")
    assert "have 3,004 bytes in total; the limit is 2,000" in attempt.error
