"""Makes agents fail at their start as the file FLEET_TEST_FATE says: they `die`, or `hang` without ever reporting.

A test loads this module into agents with FLEET_CALLABLES.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from celery import signals


@signals.worker_init.connect
def _apply_fate(**kwargs: Any) -> None:
    fate = Path(os.environ["FLEET_TEST_FATE"])
    match fate.read_text() if fate.exists() else "":
        case "die":
            sys.stderr.write("My time has come.\n")
            raise SystemExit(3)
        case "hang":
            sys.stderr.write("I do not feel like it.\n")
            sys.stderr.flush()
            time.sleep(600)
