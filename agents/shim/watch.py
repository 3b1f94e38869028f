"""What a shim waits for: a child's end, and what ends the work before its time."""

from __future__ import annotations

import math
import os
import select
import signal
import time
from contextlib import suppress

from agents.shim.lifeline import Lifeline


class Signals:
    """Signals as something to poll for."""

    def __init__(self) -> None:
        self.stop_asked = False
        self.readable, self._writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._writable, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._ask)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def _ask(self, *_: object) -> None:
        self.stop_asked = True

    def drain(self) -> None:
        with suppress(BlockingIOError):
            os.read(self.readable, 4096)

    @staticmethod
    def forget() -> None:
        """As a program expects to find them; Python ignores SIGPIPE, and what is ignored stays so over exec."""
        signal.set_wakeup_fd(-1)
        for name in ("SIGCHLD", "SIGTERM", "SIGINT", "SIGHUP", "SIGPIPE", "SIGXFSZ"):
            signal.signal(getattr(signal, name), signal.SIG_DFL)


class Watch:
    """What ends the work before its time: the worker's word, the worker's death, a signal, or the end of the lease."""

    def __init__(self, *, lifeline: Lifeline, signals: Signals, grace_s: float) -> None:
        self._lifeline, self._signals, self._grace_s = lifeline, signals, grace_s
        self._both, self._signal = select.poll(), select.poll()
        self._both.register(lifeline.descriptor, select.POLLIN)
        self._both.register(signals.readable, select.POLLIN)
        self._signal.register(signals.readable, select.POLLIN)

    @property
    def expired(self) -> bool:
        """Whether the lease has come so near to its end that the work must be stopped."""
        if self._left_s() > 0:
            return False
        self.wait(0)  # halted for a while, this process may find a renewal in the pipe
        return self._left_s() <= 0

    @property
    def stops(self) -> bool:
        return self._lifeline.closed or self._signals.stop_asked or self.expired

    @property
    def kill_at(self) -> float:
        """If it is stopped now: when what has not ended is killed."""
        return min(time.monotonic() + self._grace_s, self._lifeline.lease_end)

    def wait(self, seconds: float = math.inf) -> None:
        """Until a child has ended, or there may be a reason to stop; so long at most."""
        left_s = max(0.0, min(seconds, self._left_s()))
        timeout_ms = None if left_s == math.inf else math.ceil(left_s * 1000)
        ready = {descriptor for descriptor, _ in self._both.poll(timeout_ms)}
        self._signals.drain()
        if self._lifeline.descriptor in ready:
            self._lifeline.hear()

    def pause(self, seconds: float) -> None:
        """Until a child has ended; so long at most. Whatever else comes changes nothing any more."""
        self._signal.poll(math.ceil(seconds * 1000))
        self._signals.drain()

    def _left_s(self) -> float:
        return self._lifeline.lease_end - self._grace_s - time.monotonic()
