"""A TCP proxy on loopback that a test can slow down, halt or cut."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Self


class Proxy:
    """Forwards each connection to a port of this host, from its own thread."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.port = 0
        self.delay_s = 0.0  # in each direction
        self.passed = 0  # bytes, in both directions
        self._cut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(5)
        return self

    def __exit__(self, *error: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Break every connection, and each new one as soon as it is opened."""
        self._cut = True
        self._loop.call_soon_threadsafe(self._break)

    def halt(self) -> None:
        """Forward nothing. Connections stay open, and new ones are accepted; their data waits."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def restore(self) -> None:
        """Forward again, including the data that was sent meanwhile."""
        self._cut = False
        self._loop.call_soon_threadsafe(self._flowing.set)

    async def _listen(self) -> int:
        self._flowing.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
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

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        writers = {writer, server_writer}
        self._writers |= writers
        with contextlib.suppress(OSError):
            await asyncio.gather(self._forward(reader, server_writer), self._forward(server_reader, writer))
        self._writers -= writers

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one direction. Data is written `delay_s` after it was read, which adds latency at full bandwidth."""
        in_transit: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivery = asyncio.create_task(self._deliver(in_transit, writer))
        try:
            while data := await reader.read(65_536):
                in_transit.put_nowait((self._loop.time() + self.delay_s, data))
            in_transit.put_nowait((self._loop.time() + self.delay_s, b""))
            await delivery
        finally:
            delivery.cancel()
            writer.close()

    async def _deliver(self, in_transit: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await in_transit.get()
            await asyncio.sleep(due - self._loop.time())
            await self._flowing.wait()
            if not data:
                return
            writer.write(data)
            self.passed += len(data)
            await writer.drain()
