"""Runs a command, such as a mission, in the foreground of the terminal while the fleet runs in this process."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence

from fleet.console import invocation
from fleet.services.providers import identity

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def run(arguments: Sequence[str], *, until: Callable[[], Awaitable[object]] | None = None) -> int:
    """Run a command on this terminal and return its exit code; it gets SIGINT as soon as `until` returns.

    The command has its own session, so that it gets Ctrl-C only once, forwarded by this process.
    """
    process = await asyncio.create_subprocess_exec(
        *identity.launch_command(invocation.program(*arguments)),
        env=invocation.environment(),
        start_new_session=True,
    )
    loop = asyncio.get_running_loop()
    for number in _FORWARDED:
        if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
            continue  # under nohup the command must outlive the terminal
        loop.add_signal_handler(number, _send, process, number)
    interrupt = asyncio.ensure_future(_interrupt_after(process, until)) if until else None
    code = await process.wait()
    if interrupt:
        interrupt.cancel()
    return 128 - code if code < 0 else code


async def _interrupt_after(process: asyncio.subprocess.Process, until: Callable[[], Awaitable[object]]) -> None:
    await until()
    _send(process, signal.SIGINT)


def _send(process: asyncio.subprocess.Process, number: int) -> None:
    if process.returncode is None:
        process.send_signal(number)
