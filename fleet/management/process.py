"""What the long-running commands share: SIGTERM and Ctrl-C set an event, and the process ends in its own time."""

from __future__ import annotations

import signal
import threading
from types import FrameType


def ending() -> threading.Event:
    """An event that SIGTERM or SIGINT sets. Call it in the main thread."""
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    return asked
