"""Reports the values that the workload writes to FLEET_RESUME, while it runs and when it has ended."""

from __future__ import annotations

import time

from agents.drivers.base import Reporter
from agents.drivers.exchange import RESUME, Exchange, Unreadable
from fleet import values

POLL_S = 0.5
LABEL = "The value to resume from (FLEET_RESUME)"
REMEDY = "Save a position, and store large data as files."


class ResumeFile:
    """The file of one attempt. Create it before the workload begins: a value that is in it by then is not reported.

    The file is read completely at each poll, because neither its size nor its times change with every rewrite. A value
    that is not acceptable, for example because it is half written, is not reported; the previous one remains.
    `next_at` is when to call `check` again, on the monotonic clock.
    """

    def __init__(self, exchange: Exchange, *, reporter: Reporter, max_bytes: int) -> None:
        self._exchange, self._reporter, self._max_bytes = exchange, reporter, max_bytes
        self._data: bytes | None = None  # as last read
        self._data_error = ""  # why these contents are not reported
        self._read_error = ""  # why the file could not be read
        self._noted = False
        self._read_changed()
        self.next_at = time.monotonic() + POLL_S

    def check(self) -> bool:
        """Report the value if a check is due and the value is new. Returns whether it was reported."""
        now = time.monotonic()
        if now < self.next_at:
            return False
        self.next_at = now + POLL_S
        return self._report()

    def check_at_end(self) -> None:
        """Report the final value, after the last process has ended, or explain in the output why it is ignored."""
        self._report()
        if error := self._read_error or self._data_error:
            self._note(error)

    def _report(self) -> bool:
        data = self._read_changed()
        if data is None:
            return False
        limit = self._max_bytes
        try:
            value = self._exchange.value(data, label=LABEL, limit=limit, remedy=REMEDY)
            if values.size(value) > limit:  # `[redacted]` may be longer than what it replaces
                raise Unreadable(f"{LABEL} is larger than {limit:,} bytes with its secrets redacted. {REMEDY}")
        except Unreadable as error:
            self._data_error = str(error)
            if len(data) > limit:  # it is not just half written
                self._note(self._data_error)
            return False
        self._reporter.save_resume(value=value)
        return True

    def _read_changed(self) -> bytes | None:
        """The contents of the file if they differ from those that were read last."""
        try:
            data = self._exchange.read_bytes(RESUME, label=LABEL, limit=self._max_bytes)
        except Unreadable as error:
            self._read_error = str(error)
            return None
        self._read_error = ""
        if data == self._data:
            return None
        self._data, self._data_error = data, ""
        return data

    def _note(self, error: str) -> None:
        if not self._noted:
            self._noted = True
            self._reporter.output(stream="fleet", data=f"\n{error} The last accepted value is kept.\n".encode())
