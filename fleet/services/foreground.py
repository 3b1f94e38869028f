"""A mission (or any command) in the foreground of a terminal, with the fleet behind it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from fleet import invocation
from fleet.services.providers import identity

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def run(arguments: Sequence[str], *, base: Path, until: Callable[[], Awaitable[object]] | None = None) -> int:
    """Run `manage.py ARGUMENTS` on this terminal; its exit code. `until`: it gets a Ctrl-C as soon as this returns.

    It has a session of its own, so that a Ctrl-C comes once and through us: it decides what that means.
    """
    process = await asyncio.create_subprocess_exec(
        *identity.launched([sys.executable, str(base / "manage.py"), *arguments]),
        env=invocation.environment(),
        start_new_session=True,
    )
    loop = asyncio.get_running_loop()
    for number in _PASSED_ON:
        if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
            continue  # nohup: it outlives the terminal
        loop.add_signal_handler(number, _pass_on, process, number)
    told = asyncio.ensure_future(_interrupt(process, until)) if until else None
    code = await process.wait()
    if told:
        told.cancel()
    return 128 - code if code < 0 else code


async def _interrupt(process: asyncio.subprocess.Process, until: Callable[[], Awaitable[object]]) -> None:
    await until()
    _pass_on(process, signal.SIGINT)


def _pass_on(process: asyncio.subprocess.Process, number: int) -> None:
    if process.returncode is None:
        process.send_signal(number)
