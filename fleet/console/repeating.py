"""Repeats a display until Ctrl-C."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from django.core.management.base import OutputWrapper

from fleet.console import arguments

CLEAR = "\x1b[H\x1b[2J\x1b[3J"
INTERRUPTED = 130
ARGUMENT: dict[str, Any] = {  # for add_argument("--watch", …)
    "nargs": "?",
    "type": arguments.interval,
    "const": 2.0,
    "metavar": "SECONDS",
    "help": "refresh every SECONDS (default: 2) until Ctrl-C",
}


def repeat(*, show: Callable[[], int], out: OutputWrapper, every_s: float) -> int:
    """Call `show`, which writes, every `every_s` seconds until Ctrl-C, and return 130. Clears a terminal each time."""
    try:
        while True:
            if out.isatty():
                sys.stdout.write(CLEAR)  # not through `out`, which shows control characters
            show()
            out.flush()
            time.sleep(every_s)
    except KeyboardInterrupt:
        return INTERRUPTED
