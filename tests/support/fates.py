"""Named in FLEET_CALLABLES, it gives the agents of a node a fate that the test writes into a file: `die` as they begin, or
`hang` and never report."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from celery import signals


@signals.worker_init.connect
def _meet(**kwargs: Any) -> None:
    fate = Path(os.environ["FLEET_TEST_FATE"])
    match fate.read_text() if fate.exists() else "":
        case "die":
            sys.stderr.write("My time has come.\n")
            raise SystemExit(3)
        case "hang":
            sys.stderr.write("I do not feel like it.\n")
            sys.stderr.flush()
            time.sleep(600)
