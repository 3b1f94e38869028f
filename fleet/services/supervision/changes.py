"""Wakes the tasks of one event loop when shared state changes, so that each can check the condition it waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class ChangeNotifier:
    """Like asyncio.Condition without its lock: `notify_all` is synchronous, and `wait_for` takes a timeout."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def notify_all(self) -> None:
        """Wake all waiting tasks, so that each checks its condition again."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait_for(self, condition: Callable[[], bool], *, seconds: float | None = None) -> bool:
        """Wait until the condition holds; returns False if it does not within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._waiters.add(waiter)
                    try:
                        await waiter
                    finally:
                        self._waiters.discard(waiter)
        except TimeoutError:
            return condition()
        return True
