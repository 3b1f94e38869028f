"""The way from one host to a server, as a test wishes it: slow, halted or cut. Loopback TCP."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Self


class Proxy:
    """Passes each connection on to a port of this host, from a thread of its own."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.port = 0
        self.delay_s = 0.0  # each way
        self.passed = 0  # bytes, both ways
        self._cut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(5)
        return self

    def __exit__(self, *fault: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Break every connection, and each new one at once."""
        self._cut = True
        self._loop.call_soon_threadsafe(self._break)

    def halt(self) -> None:
        """Let nothing through. Connections stay, and new ones are taken; what is sent waits."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def restore(self) -> None:
        """Everything passes again, also what was sent meanwhile."""
        self._cut = False
        self._loop.call_soon_threadsafe(self._flows.set)

    async def _listen(self) -> int:
        self._flows.set()
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _end(self) -> None:
        self._server.close()
        self._break()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _break(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, far_writer}
        self._writers |= both
        with contextlib.suppress(OSError):
            await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
        self._writers -= both

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One way. What is read is written `delay_s` later, so a slow way is long and not narrow."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        late = asyncio.create_task(self._deliver(under_way, writer))
        try:
            while data := await reader.read(65_536):
                under_way.put_nowait((self._loop.time() + self.delay_s, data))
            under_way.put_nowait((self._loop.time() + self.delay_s, b""))
            await late
        finally:
            late.cancel()
            writer.close()

    async def _deliver(self, under_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await under_way.get()
            await asyncio.sleep(due - self._loop.time())
            await self._flows.wait()
            if not data:
                return
            writer.write(data)
            self.passed += len(data)
            await writer.drain()
