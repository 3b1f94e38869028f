"""Bodies are read before anybody is authenticated, so one address may send only so much at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from fleet.limits import addresses
from fleet.web.bodies import BodyLimiter

PIECE = b"x" * 1_000


class Client:
    """One request with a body of `pieces` kilobytes, and its response."""

    def __init__(self, address: str, *, pieces: int, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self.scope = {"type": "http", "client": (address, 1), "headers": list(headers), "path": "/"}
        self.messages = [{"type": "http.request", "body": PIECE, "more_body": n < pieces - 1} for n in range(pieces)]
        self.status = 0
        self.code = ""

    async def receive(self) -> Any:
        return self.messages.pop(0)

    async def send(self, message: Any) -> None:
        self.status = message.get("status", self.status)
        if message["type"] == "http.response.body" and self.status != 200:
            self.code = json.loads(message["body"])["code"]


class Site:
    """A site that reads whole bodies, and responds on request."""

    def __init__(self) -> None:
        self.respond = asyncio.Event()
        self.limiter = BodyLimiter(self, max_bytes=100_000, address_bytes=10_000)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        await self.respond.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def take(self, *clients: Client) -> None:
        """Let the clients send one after the other, then respond to all of them."""
        tasks = []
        for client in clients:
            tasks.append(asyncio.create_task(self.limiter(client.scope, client.receive, client.send)))
            await asyncio.sleep(0.01)
        self.respond.set()
        await asyncio.gather(*tasks)


def outcome(*clients: Client) -> list[int]:
    async def run() -> None:
        await Site().take(*clients)

    asyncio.run(run())
    return [client.status for client in clients]


def test_the_bodies_of_one_address_are_added_up_while_they_are_in_progress() -> None:
    clients = [Client("198.51.100.7", pieces=4) for _ in range(4)]
    assert outcome(*clients) == [200, 200, 429, 429]
    assert clients[-1].code == "too_many_bodies"
    assert outcome(Client("198.51.100.7", pieces=10)) == [200], "bodies of finished requests no longer count"


def test_other_addresses_are_unaffected_but_an_ipv6_network_counts_as_one() -> None:
    assert outcome(Client("198.51.100.7", pieces=9), Client("198.51.100.8", pieces=9)) == [200, 200]
    assert outcome(Client("2001:db8::1", pieces=9), Client("2001:db8::2", pieces=9)) == [200, 429]


def test_a_forwarded_address_counts_only_from_a_trusted_proxy(settings: Any) -> None:
    spoofed = [Client("198.51.100.7", pieces=9, headers=[(b"x-forwarded-for", b"203.0.113.%d" % n)]) for n in (1, 2)]
    assert outcome(*spoofed) == [200, 429]
    settings.FLEET_TRUSTED_PROXIES = addresses.parse_networks("198.51.100.7")
    clients = [Client("198.51.100.7", pieces=9, headers=[(b"x-forwarded-for", b"203.0.113.%d" % n)]) for n in (1, 2, 1)]
    assert outcome(*clients) == [200, 200, 429]


@pytest.mark.parametrize("pieces", [11, 50])
def test_a_single_body_beyond_the_limit_is_refused_and_then_forgotten(pieces: int) -> None:
    for _ in range(2):
        assert outcome(Client("198.51.100.9", pieces=pieces)) == [429]
    assert outcome(Client("198.51.100.9", pieces=10)) == [200]
