"""The processes of the site record their uptime. Halted ones do not."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from fleet.config import ports
from fleet.web import uptime
from fleet.web.models import Uptime
from tests.support.paths import CHECKOUT
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def test_the_site_records_its_uptime_until_all_processes_are_halted(
    subprocess_environment: dict[str, str], tmp_path: Path
) -> None:
    assert uptime.has_been_up(for_s=3_600), "without a site, no agent depends on one"
    port = ports.find_free()
    with (tmp_path / "log").open("wb") as log:
        site = subprocess.Popen(
            [sys.executable, "-m", "fleet.web", f"--port={port}"],
            cwd=CHECKOUT,
            stdout=log,
            stderr=log,
            env={**subprocess_environment, "FLEET_PROCESS": "web", "FLEET_WEB_WORKERS": "2"},
        )
    try:
        until(Uptime.objects.exists)
        since = Uptime.objects.get().up_since
        workers = psutil.Process(site.pid).children()
        workers[0].suspend()
        until(lambda: uptime.has_been_up(for_s=2 * uptime.BEAT_S))
        assert Uptime.objects.get().up_since == since, "the other process answers"
        workers[1].suspend()
        until(lambda: not uptime.has_been_up(for_s=0))
        for worker in workers:
            worker.resume()
        until(lambda: uptime.has_been_up(for_s=0))
        assert Uptime.objects.get().up_since > since
    finally:
        for worker in psutil.Process(site.pid).children():
            worker.resume()
        site.send_signal(signal.SIGTERM)
        site.wait(60)
