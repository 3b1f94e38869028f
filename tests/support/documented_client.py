"""A client of the API that knows only its OpenAPI document: it finds addresses by what they do."""

from __future__ import annotations

import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect


class DocumentedClient:
    def __init__(self, root: str) -> None:
        self.root, self.token = root.rstrip("/"), ""
        self.document = self._ask("GET", f"{self.root}/schema?format=json")[1]

    def sign_in(self, name: str, password: str) -> None:
        status, pair = self.call("post_auth_token", {"username": name, "password": password})
        assert status == 200, pair
        self.token = pair["access"]

    def call(self, operation: str, body: Any = None, **path: str) -> tuple[int, Any]:
        method, address = self._find(operation, **path)
        return self._ask(method, address, body)

    def all(self, operation: str, **path: str) -> list[Any]:
        """The items of all pages of a list."""
        items, address = [], self._find(operation, **path)[1]
        while address:
            status, page = self._ask("GET", address)
            assert status == 200, page
            items += page["results"]
            address = page["next"]
        return items

    def read(self, operation: str, **path: str) -> bytes:
        """A body that is not JSON."""
        _, address = self._find(operation, **path)
        request = urllib.request.Request(address, headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=20) as response:
            return bytes(response.read())

    def follow(self, operation: str, **path: str) -> Iterator[Any]:
        """The events of a stream, from the first one on."""
        method, address = self._find(operation, **path)
        headers = {"Authorization": f"Bearer {self.token}", "Last-Event-ID": "0-0"}
        with urllib.request.urlopen(
            urllib.request.Request(address, headers=headers, method=method), timeout=30
        ) as response:
            for line in response:
                if line.startswith(b"data: "):
                    yield json.loads(line.removeprefix(b"data: "))

    def _find(self, operation: str, **path: str) -> tuple[str, str]:
        """Method and address."""
        for address, methods in self.document["paths"].items():
            for method, value in methods.items():
                if value["operationId"] == operation:
                    url = re.sub(r"\{(\w+)\}", lambda found: path[found[1]], address)
                    return method.upper(), self.root.removesuffix("/api/v1") + url
        raise AssertionError(f"the document names no {operation}")

    def _ask(self, method: str, address: str, body: Any = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(address, data, {"Content-Type": "application/json"}, method=method)
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")


class LiveEvents:
    """Reads the WebSocket of a mission in a thread, from a cursor on, until it ends or breaks."""

    def __init__(self, client: DocumentedClient, mission: str, *, cursor: str) -> None:
        self.events: list[dict[str, Any]] = []
        self.cursor = cursor
        self.end: dict[str, Any] = {}
        address = client.root.replace("http", "ws", 1).removesuffix("/api/v1")
        self._line = connect(
            f"{address}/ws/v1/missions/{mission}?cursor={cursor}",
            additional_headers={"Authorization": f"Bearer {client.token}"},
            legacy=True,  # without a context manager
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def kinds(self) -> list[str]:
        return [event["kind"] for event in self.events]

    def wait(self, *, seconds: float) -> None:
        """Wait until the stream has ended or broken."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"the stream is still open after {self.kinds}"

    def _read(self) -> None:
        try:
            for message in self._line:
                document = json.loads(message)
                self.cursor = document["cursor"]
                self.end = document.get("end", {})
                if "event" in document:
                    self.events.append(document["event"])
        except (ConnectionClosed, OSError):
            return
