"""Makes agents fail at their start, as the file FLEET_TEST_START_FAILURE says: `die`, or `hang` without reporting.

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
def _fail(**kwargs: Any) -> None:
    file = Path(os.environ["FLEET_TEST_START_FAILURE"])
    match file.read_text() if file.exists() else "":
        case "die":
            sys.stderr.write("The test lets this agent die.\n")
            raise SystemExit(3)
        case "hang":
            sys.stderr.write("The test lets this agent hang.\n")
            sys.stderr.flush()
            time.sleep(600)
