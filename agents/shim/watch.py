"""Waits for what a shim must react to: the end of a child, and every reason to stop the workload early."""

from __future__ import annotations

import math
import os
import select
import signal
import time
from contextlib import suppress

from agents.shim.lifeline import Lifeline


class Signals:
    """Turns signals into a readable descriptor, `readable`."""

    def __init__(self) -> None:
        self.stop_requested = False
        self.readable, self._writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._writable, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._request_stop)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def _request_stop(self, *_: object) -> None:
        self.stop_requested = True

    def drain(self) -> None:
        with suppress(BlockingIOError):
            os.read(self.readable, 4096)

    @staticmethod
    def restore_defaults() -> None:
        """Reset the handlers before an exec, which would keep ignored signals ignored.

        Python ignores SIGPIPE and SIGXFSZ, and the processes above may ignore others (nohup: SIGHUP).
        """
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)


class WorkloadWatch:
    """The reasons to stop the workload early: the worker stops it or dies, a signal arrives, or the lease ends."""

    def __init__(self, *, lifeline: Lifeline, signals: Signals, grace_s: float) -> None:
        self._lifeline, self._signals, self._grace_s = lifeline, signals, grace_s
        self._any_poll, self._signal_poll = select.poll(), select.poll()
        self._any_poll.register(lifeline.descriptor, select.POLLIN)
        self._any_poll.register(signals.readable, select.POLLIN)
        self._signal_poll.register(signals.readable, select.POLLIN)

    @property
    def expired(self) -> bool:
        """Whether the end of the lease is so near that the workload must be stopped."""
        if self._left_s() > 0:
            return False
        self.wait(0)  # if this process was halted, a renewal may be waiting in the pipe
        return self._left_s() <= 0

    @property
    def must_stop(self) -> bool:
        return self._lifeline.closed or self._signals.stop_requested or self.expired

    def poll(self) -> bool:
        """Whether the workload must be stopped, after reading what has arrived."""
        self.wait(0)
        return self.must_stop

    @property
    def kill_at(self) -> float:
        """When to kill what has not ended, if the workload is stopped now."""
        return min(time.monotonic() + self._grace_s, self._lifeline.lease_end)

    def wait(self, seconds: float = math.inf) -> None:
        """Wait at most this long, until a child has ended or there may be a reason to stop."""
        left_s = max(0.0, min(seconds, self._left_s()))
        timeout_ms = None if left_s == math.inf else math.ceil(left_s * 1000)
        ready = {descriptor for descriptor, _ in self._any_poll.poll(timeout_ms)}
        self._signals.drain()
        if self._lifeline.descriptor in ready:
            self._lifeline.receive()

    def wait_for_child(self, seconds: float) -> None:
        """Wait at most this long, until a child has ended. The workload is being stopped, so nothing else matters."""
        self._signal_poll.poll(math.ceil(seconds * 1000))
        self._signals.drain()

    def _left_s(self) -> float:
        return self._lifeline.lease_end - self._grace_s - time.monotonic()
