"""A Redis with a replica and three Sentinels, from the embedded Valkey's binary."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import redis

from fleet.config import ports, programs
from tests.support.services.servers import Server
from tests.support.waiting import until

MASTER = "fleet"
PASSWORD, SENTINEL_PASSWORD = "of-the-servers", "of-the-sentinels"
DOWN_S = 1.0  # silence after which a Sentinel considers the master down


class Group:
    """Starts and stops all of these servers."""

    def __init__(self, folder: Path) -> None:
        self.servers = [self._server(folder / "first", replica_of=None)]
        self.servers.append(self._server(folder / "second", replica_of=self.servers[0].port))
        self.sentinels = [self._sentinel(folder / f"sentinel-{number}") for number in range(3)]

    def __enter__(self) -> Self:
        for server in (*self.servers, *self.sentinels):
            server.start()
        until(lambda: all(self._knows(sentinel) for sentinel in self.sentinels))
        return self

    def __exit__(self, *error: object) -> None:
        for server in (*self.sentinels, *self.servers):
            server.stop()

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://:{PASSWORD}@{hosts}/{MASTER}/0?sentinel_password={SENTINEL_PASSWORD}"

    def master(self) -> Server:
        """The server that the first Sentinel calls the master."""
        with self._ask(self.sentinels[0]) as client:
            _, port = client.sentinel_get_master_addr_by_name(MASTER)
        return next(server for server in self.servers if server.port == int(port))

    def client(self, server: Server) -> redis.Redis:
        return redis.Redis(port=server.port, password=PASSWORD, decode_responses=True)

    def calls(self, server: Server, command: str) -> int:
        """How often clients have sent this command to a server."""
        with self.client(server) as client:
            return int(client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))

    def _knows(self, sentinel: Server) -> bool:
        with self._ask(sentinel) as client:
            state = client.sentinel_masters()[MASTER]
        return (state["num-other-sentinels"], state["num-slaves"]) == (2, 1)

    def _ask(self, sentinel: Server) -> redis.Redis:
        return redis.Redis(port=sentinel.port, password=SENTINEL_PASSWORD)

    def _server(self, folder: Path, *, replica_of: int | None) -> Server:
        port = ports.find_free()
        lines = ["bind 127.0.0.1", f"port {port}", f"requirepass {PASSWORD}", f"masterauth {PASSWORD}", 'save ""']
        if replica_of is not None:
            lines.append(f"replicaof 127.0.0.1 {replica_of}")
        folder.mkdir(parents=True)
        (folder / "server.conf").write_text("\n".join(lines) + "\n")
        return Server([programs.valkey(), "server.conf"], folder=folder, port=port)

    def _sentinel(self, folder: Path) -> Server:
        port = ports.find_free()
        lines = [
            "bind 127.0.0.1",
            f"port {port}",
            f"requirepass {SENTINEL_PASSWORD}",
            f"sentinel sentinel-pass {SENTINEL_PASSWORD}",
            f"sentinel monitor {MASTER} 127.0.0.1 {self.servers[0].port} 2",
            f"sentinel auth-pass {MASTER} {PASSWORD}",
            f"sentinel down-after-milliseconds {MASTER} {DOWN_S * 1_000:.0f}",
            f"sentinel failover-timeout {MASTER} 5000",
        ]
        folder.mkdir(parents=True)
        (folder / "sentinel.conf").write_text("\n".join(lines) + "\n")
        return Server([programs.valkey(), "sentinel.conf", "--sentinel"], folder=folder, port=port)
