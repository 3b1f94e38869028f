"""Everything that responses need is loaded before the site forks, and nothing is opened that a fork would share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import CHECKOUT

LOAD = """
import sys, threading
import psutil
from fleet.web.__main__ import load
load()
late = (
    "missions.api.missions", "examples.repo_audit.reporting.report", "fleet.redis.transport", "celery.app.events", "psycopg_pool"
)
print([name for name in late if name not in sys.modules], threading.active_count(), psutil.Process().net_connections())
"""


def load_site(**env: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "FLEET_PROCESS": "web", **env}
    return subprocess.run(
        [sys.executable, "-c", LOAD],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_first_request_of_a_process_imports_nothing() -> None:
    result = load_site()
    assert result.stdout.strip() == "[] 1 []", result.stderr


@pytest.mark.parametrize("statement", ["import not_there", "import sys; sys.exit(3)"])
def test_the_site_starts_even_if_the_operators_callables_do_not_load(statement: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(f"{statement}\n")
    result = load_site(FLEET_CALLABLES="broken", PYTHONPATH=str(tmp_path))
    assert "The callables of broken cannot be loaded" in result.stderr
    assert result.stdout, "the site has started"


@pytest.mark.django_db(transaction=True)
def test_callables_that_query_postgres_while_loading_leave_no_open_connection(
    subprocess_environment: dict[str, str], tmp_path: Path
) -> None:
    asks = "from django.contrib.auth.models import User\nprint(User.objects.count(), end=': ')\n"
    (tmp_path / "asking.py").write_text(asks)
    result = load_site(**subprocess_environment, FLEET_CALLABLES="asking", PYTHONPATH=str(tmp_path))
    assert result.stdout.strip() == "0: [] 1 []", result.stderr
