"""What the kernel counts by user is shared by all attempts, so no workload gets more than a part of it."""

from __future__ import annotations

import contextlib
import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.work.confined import Place, places

WATCHES = """
import ctypes, json
libc = ctypes.CDLL(None)
number = 0
while libc.inotify_init1(0) >= 0:
    number += 1
print(json.dumps(number))
"""
SIGNALS = """
import ctypes, json, os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [40])
libc = ctypes.CDLL(None)
number = 0
while libc.sigqueue(os.getpid(), 40, None) == 0:
    number += 1
print(json.dumps(number))
"""
RAISE = """
import json
limits = {}
for kind in ("user", "mnt", "pid", "net", "ipc"):
    path = f"/proc/sys/user/max_{kind}_namespaces"
    try:
        open(path, "w").write("100000")
    except OSError:
        pass
    limits[kind] = int(open(path).read())
capabilities = [line.split()[1] for line in open("/proc/self/status") if line.startswith(("CapInh", "CapPrm", "CapAmb"))]
print(json.dumps([limits, capabilities]))
"""


@pytest.fixture
def place() -> Iterator[Place]:
    with contextlib.contextmanager(places)("an ordinary user") as ordinary:
        yield ordinary


def output(place: Place, code: str) -> Any:
    report = place.run(f"cat > /tmp/code.py <<'end'\n{code}\nend\n{place.python} /tmp/code.py")
    assert report["ok"], report
    return json.loads(report["out"])


def test_a_workload_leaves_inotify_instances_to_others(place: Place) -> None:
    """By default a user has 128, and tools that watch files fail without one."""
    available = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    if available // 4 > 4_000:
        pytest.skip("the workload cannot open as many files")
    assert output(place, WATCHES) == max(1, available // 4)


def test_a_workload_leaves_queued_signals_to_others(place: Place) -> None:
    """Timers need one each, so without them the programs of other attempts fail."""
    limit, _ = resource.getrlimit(resource.RLIMIT_SIGPENDING)
    if limit == resource.RLIM_INFINITY:
        pytest.skip("this host does not limit queued signals")
    assert 0 < output(place, SIGNALS) <= limit // 4


def test_a_workload_cannot_use_up_the_namespaces_that_sandboxes_need(place: Place) -> None:
    limits, capabilities = output(place, RAISE)
    assert set(limits.values()) == {512}
    assert {int(mask, 16) for mask in capabilities} == {0}
